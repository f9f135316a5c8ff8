//! The right frame and the right colours from any camera's file: containers, codecs and oddities, each through the real
//! programs, each judged by the clock in its pictures and by FFmpeg's own picture of the same instant.

mod coding;
mod film;
mod judge;
mod picture;

mod containers;
mod descriptions;
mod fields;
mod hostile;
mod oddities;
mod seeking;
mod tails;
mod timing;
