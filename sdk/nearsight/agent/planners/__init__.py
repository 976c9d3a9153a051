"""Planners: what turns a question into steps."""
