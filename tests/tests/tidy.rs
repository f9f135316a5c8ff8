//! The rules of the codebase that no compiler checks.
