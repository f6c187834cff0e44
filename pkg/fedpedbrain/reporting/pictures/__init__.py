"""Pictures and videos of cases."""
