"""What keeps a long run alive: watchdog, preemption, a full disk, and the faults that tests inject."""
