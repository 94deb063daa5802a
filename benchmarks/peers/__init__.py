"""Workers: one library each, in a process of its own; import only what that library brings."""
