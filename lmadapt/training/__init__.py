"""What both trainings share: mixture of domain and replay, packed rows, adapters, anchors, and the one loop."""
