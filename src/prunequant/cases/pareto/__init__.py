"""Loss against bytes and time: what a whole model gives for what it costs."""
