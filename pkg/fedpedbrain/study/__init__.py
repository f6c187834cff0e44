"""What is asked: the config checked and put in words; touches no disk but to read what it names."""
