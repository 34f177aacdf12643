"""The commands, by what they are about; :mod:`latentsweep.cli` puts them together."""
