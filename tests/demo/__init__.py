"""The demo itself: its answers at a gate, its picture, and that it leaves nothing."""
