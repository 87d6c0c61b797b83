//! Shapes of the types that people keep in stores.

use std::collections::{BTreeMap, BTreeSet};
use std::num::NonZeroU32;

use serde::{Deserialize, Serialize};

use super::{shape_of, short_name};
use crate::key::Windowed;

#[derive(Serialize, Deserialize)]
struct User {
    name: String,
    age: Option<u32>,
    tags: BTreeSet<String>,
    scores: BTreeMap<u8, (f64, bool)>,
}

#[derive(Serialize, Deserialize)]
enum State {
    Open,
    Paid(u64),
    Sent { at: i64, by: Carrier },
    Lost(String, char),
}

#[derive(Serialize, Deserialize)]
enum Carrier {
    Post,
    Own(Box<User>),
}

#[derive(Serialize, Deserialize)]
struct Order {
    state: State,
    before: Vec<State>,
}

#[derive(Serialize, Deserialize)]
struct Node {
    children: Vec<Node>,
    next: Option<Box<Node>>,
}

#[derive(Serialize, Deserialize)]
enum Tree {
    Fork(Box<Tree>, Box<Tree>),
    Leaf(NonZeroU32),
}

#[derive(Serialize, Deserialize)]
struct Meters(f64);

#[derive(Serialize, Deserialize)]
struct Nothing;

const USER: &str = "User{name:String, age:Option<u32>, tags:[String], scores:{u8 => (f64, bool)}}";

#[test]
fn names_and_types_of_fields_are_told() {
    assert_eq!(shape_of::<u64>(), "u64");
    assert_eq!(shape_of::<()>(), "()");
    assert_eq!(shape_of::<User>(), USER);
    assert_eq!(shape_of::<(Meters, Nothing)>(), "(Meters(f64), Nothing)");
    assert_eq!(shape_of::<[u8; 3]>(), "(u8, u8, u8)");
    assert_eq!(shape_of::<Windowed<String>>(), "Windowed{key:String, start:i64, end:i64}");
}

#[test]
fn every_variant_is_found_also_inside_others() {
    assert_eq!(
        shape_of::<Order>(),
        format!(
            "Order{{state:State, before:[State]}}; Carrier=Post|Own({USER}); \
             State=Open|Paid(u64)|Sent{{at:i64, by:Carrier}}|Lost(String, char)"
        )
    );
}

#[test]
fn types_that_contain_themselves_have_an_end() {
    assert_eq!(shape_of::<Node>(), "Node{children:[Node], next:Option<Node>}");
    assert_eq!(shape_of::<Tree>(), "Tree; Tree=Fork(Tree, Tree)|Leaf(u32)");
}

#[test]
fn a_change_shows() {
    mod newer {
        use super::*;
        #[derive(Serialize, Deserialize)]
        pub(super) struct User {
            name: String,
            age: Option<u32>,
            tags: BTreeSet<String>,
            scores: BTreeMap<u8, (f64, bool)>,
            country: String,
        }
        #[derive(Serialize, Deserialize)]
        pub(super) enum Carrier {
            Post,
            Own(Box<super::User>),
            Drone,
        }
    }
    assert_ne!(shape_of::<newer::User>(), shape_of::<User>());
    assert_ne!(shape_of::<newer::Carrier>(), shape_of::<Carrier>());
    assert_ne!(shape_of::<u32>(), shape_of::<u64>());
}

#[test]
fn what_refuses_every_value_is_told_by_its_name() {
    assert_eq!(shape_of::<std::net::Ipv4Addr>(), "(u8, u8, u8, u8)");
    assert_eq!(shape_of::<serde_json::Value>(), "Value");
    assert_eq!(short_name("a::b::Pair<c::D, alloc::string::String>"), "Pair<D, String>");
}
