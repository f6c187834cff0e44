"""The course of a run: when jobs ran, the critical path, what an arm cost."""
