"""A page for each command, made from its options, its help and its examples."""
