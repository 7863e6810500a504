"""Images in and out: what they are, what they become, where they lie, and who may fetch them."""
