"""What the claims of several chapters and the commands that make their records measure with; no claim stands here."""
