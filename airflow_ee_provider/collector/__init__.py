"""Cancels the operations that tasks owned and no active task needs: a thread in the triggerer, or in a scheduler."""
