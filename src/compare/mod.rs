//! Are two replies the same answer? Is a reply a miss?
