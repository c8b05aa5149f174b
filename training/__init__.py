"""What runs in a rank: process group, step, epochs, checkpoint and events."""
