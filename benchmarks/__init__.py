"""Speed and quality tables that anyone can rerun."""
