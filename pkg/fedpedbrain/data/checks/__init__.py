"""What is checked of a cohort: splits, copies, the joint check of all sites, the audit."""
