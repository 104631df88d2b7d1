"""What a task does with its operations when it ends: the decision, and the code that acts on it."""
