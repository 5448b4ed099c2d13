"""The worker: takes executions, runs them through the interpreter, and never lets a lost message or a dead peer matter."""
