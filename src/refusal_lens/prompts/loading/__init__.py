"""Reading prompts: the published folders, built data sets, a user's own files; ids, sets, drawing."""
