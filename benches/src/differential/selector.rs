//! Selectors of all three kinds, well and ill formed, with labels beside them.

use serde_json::{Value, json};

use super::names::percent;
use crate::generate::Random;

const KEYS: [&str; 12] = [
    "a", "b", "app", "n", "in", "notin", "example.com/tier", "x_y.z", "-bad", "a/b/c", "Example.com/x", "",
];
const VALUES: [&str; 18] = [
    "", "1", "2", "10", "web", "db", "x-y", "in", "-1", "+5", "007", "9223372036854775807", "9223372036854775808", "1.5",
    "bad value", "-x", "a.b_c", "é",
];
const TOKENS: [&str; 20] = [
    "a", "b", "in", "notin", "(", ")", ",", "=", "==", "!=", "!", ">", "<", "1", "x", " ", "\t", "gt", "lt", "\u{0}",
];

/// Cases of area `selector`.
pub(super) fn selector(random: &mut Random) -> Value {
    let r = random;
    let mut cases = Vec::new();
    for _ in 0..3 {
        let given = match r.below(10) {
            0..4 => json!({"selector": text(r)}),
            4..6 => json!({"selector": soup(r)}),
            6..9 => json!({"selector": object(r)}),
            _ => json!({"set": labels(r)}),
        };
        for _ in 0..2 {
            let mut case = given.clone();
            case["labels"] = labels(r);
            cases.push(case);
        }
    }
    json!({"area": "selector", "cases": cases})
}

fn key(random: &mut Random) -> String {
    // Mostly a valid one.
    let count = if percent(random, 4) { KEYS.len() } else { 8 };
    (*random.pick(&KEYS[..count])).to_owned()
}

fn value(random: &mut Random) -> String {
    let count = if percent(random, 5) { VALUES.len() } else { 10 };
    (*random.pick(&VALUES[..count])).to_owned()
}

fn labels(random: &mut Random) -> Value {
    let mut map = serde_json::Map::new();
    for _ in 0..random.below(5) {
        let (key, value) = (key(random), value(random));
        map.insert(key, value.into());
    }
    Value::Object(map)
}

fn blank(random: &mut Random) -> &'static str {
    const BLANKS: [&str; 9] = ["", "", "", "", " ", "  ", "\t", "\n", "\r"];
    BLANKS[random.below(BLANKS.len())]
}

/// A text of the grammar, now and then with one token too many.
fn text(random: &mut Random) -> String {
    let r = random;
    let mut text = String::new();
    for at in 0..r.between(0, 4) {
        if at > 0 {
            text += blank(r);
            text.push(',');
        }
        text += blank(r);
        let key = key(r);
        match r.below(8) {
            0 => text += &key,
            1 => text += &format!("!{}{key}", blank(r)),
            2 | 3 => {
                let operator = *r.pick(&["in", "notin"]);
                let values: Vec<String> =
                    (0..r.below(4)).map(|_| format!("{}{}{}", blank(r), value(r), blank(r))).collect();
                text += &format!("{key} {operator}{}({})", blank(r), values.join(","));
            }
            4 => {
                let operator = *r.pick(&[">", "<"]);
                text += &format!("{key}{}{operator}{}{}", blank(r), blank(r), value(r));
            }
            _ => {
                let operator = *r.pick(&["=", "==", "!="]);
                text += &format!("{key}{}{operator}{}{}", blank(r), blank(r), value(r));
            }
        }
        text += blank(r);
    }
    if percent(r, 10) {
        let at = r.below(text.len() + 1);
        if text.is_char_boundary(at) {
            let token: &str = TOKENS[r.below(TOKENS.len())];
            text.insert_str(at, token);
        }
    }
    text
}

/// Tokens without any grammar.
fn soup(random: &mut Random) -> String {
    (0..random.between(1, 7)).map(|_| TOKENS[random.below(TOKENS.len())]).collect()
}

fn object(random: &mut Random) -> Value {
    let r = random;
    if percent(r, 5) {
        return Value::Null;
    }
    let mut object = json!({});
    if percent(r, 60) {
        object["matchLabels"] = labels(r);
    }
    if percent(r, 60) {
        let expressions: Vec<Value> = (0..r.between(0, 3))
            .map(|_| {
                let operators = ["In", "In", "NotIn", "NotIn", "Exists", "DoesNotExist", "Gt", "in", ""];
                let count = if percent(r, 10) { operators.len() } else { 6 };
                let operator = *r.pick(&operators[..count]);
                let mut expression = json!({"key": key(r), "operator": operator});
                let has = operator.ends_with("In") != percent(r, 5);
                if has {
                    expression["values"] = (0..r.between(1, 3)).map(|_| value(r)).collect();
                }
                expression
            })
            .collect();
        object["matchExpressions"] = json!(expressions);
    }
    object
}
