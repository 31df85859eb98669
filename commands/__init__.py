"""The commands, a file for each kind of work. Importing them adds them to the application."""
