"""`make bench`: this project's speed beside what a user would reach for instead, and beside the machine's own limit."""
