//! What must hold of any text that claims to be a credential: it is refused without a panic. Tests only.

use proptest::prelude::*;
use serde_json::json;
use stills_model::time::Timestamp;

use super::keys::KeySet;
use super::testkeys::{NOW, SECRET, Signer, claims};
use super::token::{self, TokenHeader, TokenRules};
use super::{AuthError, Caller, ClaimPointers, Credentials, ScopeSet, Secret};

fn verify(token: &str) -> Result<Caller, AuthError> {
    let rules =
        TokenRules { issuer: None, audience: None, claims: ClaimPointers::default(), default_scopes: ScopeSet::EMPTY };
    let keys = KeySet::from_secret(&Secret::new(SECRET));
    token::verify(token, &TokenHeader::parse(token)?, &keys, &rules, Timestamp::from_ms(NOW * 1000))
}

proptest! {
    #[test]
    fn nothing_but_the_signed_text_passes(at in any::<prop::sample::Index>(), put in any::<char>()) {
        let good = Signer::hs().token(&claims(json!({})));
        prop_assert!(verify(&good).is_ok());
        let mut changed: Vec<char> = good.chars().collect();
        changed[at.index(good.len())] = put;
        let changed: String = changed.into_iter().collect();
        prop_assert_eq!(verify(&changed).is_ok(), changed == good);
    }

    #[test]
    fn signed_rubbish_is_refused(header in ".{0,60}", body in prop::collection::vec(any::<u8>(), 0..200)) {
        prop_assert!(verify(&Signer::hs().raw(&header, &body)).is_err());
        let named = Signer::hs().raw(r#"{"alg":"HS256"}"#, &body);
        prop_assert!(verify(&named).is_err());
    }

    #[test]
    fn no_query_panics(query in "[a-z=&%0-9]{0,20}(&?(expires|key|signature)=?[a-z&=]{0,6}){0,6}") {
        let names = ["expires", "key", "signature"];
        let counts = names.map(|name| query.split('&').filter(|pair| pair.split('=').next() == Some(name)).count());
        let headers = http::HeaderMap::new();
        match Credentials::from_headers_or_query(&headers, Some(&query)) {
            Ok(_) => prop_assert_eq!(counts, [1, 1, 1]),
            Err(AuthError::Missing) => prop_assert_eq!(counts, [0, 0, 0]),
            Err(_) => prop_assert!(counts != [1, 1, 1] && counts != [0, 0, 0]),
        }
    }
}
