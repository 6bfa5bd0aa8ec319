"""What messages mean. Pure: no I/O, no tasks, no clock; `now` is always an argument."""
