"""The verbs: what a user asks for, joined from studies and reports."""
