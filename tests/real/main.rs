//! Tests against real components. A part that this machine does not have is named, never silently left out.

mod evidence;
mod kubernetes;
mod outsider;
