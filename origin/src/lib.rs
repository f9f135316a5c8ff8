//! The HTTP origin: search, pictures, events, authorisation. Behind NGINX, in front of the indexer library.
//!
//! Reading order: [`app`] builds everything, [`server`] accepts connections, [`route`] parses a request's path,
//! [`serve`] pairs each route with its handler, handlers answer with [`reply::Reply`], and [`reply`] alone
//! chooses HTTP statuses. Handlers never import each other.

pub mod app;
pub mod server;

mod image_path;
mod route;
mod serve;

mod conditional;
mod query;
mod reply;

pub mod auth;
mod cors;

mod auth_check;
mod compat;
mod events;
mod image;
mod images;
mod openapi;
mod ops;
mod problems;
mod recordings;
mod search;
mod thumb;
