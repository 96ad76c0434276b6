//! What a command is: its keys, whether it writes, what counts as a miss.
