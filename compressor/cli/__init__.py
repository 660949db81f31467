"""The command line: one file a command group; parse, call, print, no logic."""
