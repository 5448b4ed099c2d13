"""What a definition means: the interpreter, the step runner and the journal's protocol. No database here."""
