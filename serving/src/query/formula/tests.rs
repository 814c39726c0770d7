use proptest::prelude::*;

use super::*;

fn parse(text: &str) -> Formula {
    Formula::parse(text).unwrap_or_else(|problem| panic!("{text}: {problem:?}"))
}

#[test]
fn a_ratio_is_two_questions_and_a_division() {
    let formula = parse("sum(money.USD) / count(*) filter (where department = 'DELI')");
    assert_eq!(formula.aggregates.len(), 2);
    let [revenue, events] = &formula.aggregates[..] else { panic!("two") };
    assert_eq!(
        (revenue.measure, revenue.metric().currency.map(|currency| currency.code())),
        (Measure::Money, Some("USD"))
    );
    assert_eq!((revenue.event.as_str(), revenue.filters.len()), ("*", 0));
    assert_eq!((events.measure, events.filters.len()), (Measure::Count, 1));
    assert_eq!(formula.unit_name(), "USD/events");
    let exact = |value| Some(Estimate::exact(Ratio::from_integer(value)));
    let value = formula.value(&[exact(7), exact(2)]).expect("in range").expect("defined");
    assert_eq!(*value.value(), Ratio::new(7, 2));
    assert_eq!(formula.value(&[exact(7), exact(0)]), Ok(None));
}

#[test]
fn equal_aggregates_are_asked_once_and_conditions_go_to_all() {
    let formula =
        parse("count(*) * 100.5 - -(count(*)) where event = 'buy' and store not in ('1', 'o''k') and d like 'x%'");
    assert_eq!(formula.aggregates.len(), 1);
    assert_eq!((formula.aggregates[0].event.as_str(), formula.aggregates[0].filters.len()), ("buy", 2));
    let values: Vec<_> = formula.aggregates[0].filters.iter().flat_map(|filter| filter.test.values()).collect();
    assert_eq!(values, ["x", "1", "o'k"]);
    assert_eq!(parse("uniq(user)").aggregates, parse("COUNT(distinct user)").aggregates);
    assert_eq!(parse("sum(\"cart.size\")").aggregates[0].metric().property.as_deref(), Some("cart.size"));
}

#[test]
fn what_is_not_allowed_is_named_with_its_place() {
    for (text, position, word) in [
        ("avg(money.USD)", 1, "count(*)"),
        ("count(*) + max(x)", 12, "aggregate"),
        ("count(id)", 1, "count(*)"),
        ("uniq(session)", 6, "users"),
        ("sum(money.ZZZ)", 11, "ZZZ"),
        ("sum(price * 2)", 5, "summed"),
        ("sum(money.USD) + sum(money.EUR)", 18, "currency"),
        ("sum(money.USD) - count(*)", 18, "money"),
        ("sum(money.USD) + sum(USD)", 18, "money"),
        ("count(*) % 2", 1, "%"),
        ("count(*); drop table cells", 9, "\";\""),
        ("count(*) from cells", 10, "from"),
        ("(select 1)", 2, "count(*)"),
        ("count(*) over ()", 1, "aggregate"),
        ("count(*) filter (where department = tenant)", 37, "text"),
        ("count(*) filter (where a = 'x' or b = 'y')", 24, "condition"),
        ("count(*) filter (where sleep(3) = 'x')", 24, "dimension"),
        ("count(*) filter (where a like '%x%')", 31, "pattern"),
        ("count(*) filter (where event in ('a', 'b'))", 24, "one event"),
        ("count(*) filter (where event = 'a') where event = 'b'", 43, "one name"),
        ("count(*) filter", 1, "filter"),
        ("1 + 1", 1, "nothing to count"),
        ("count(*) +\n'x'", 12, "value"),
        ("count(*) + 'x", 12, "string"),
    ] {
        let problem = Formula::parse(text).expect_err(text);
        assert_eq!((problem.status, problem.parameter), (400, Some("metric_text")), "{text}");
        assert!(problem.detail.contains(word), "{text}: {}", problem.detail);
        assert_eq!(problem.position, Some(position), "{text}: {}", problem.detail);
    }
}

#[test]
fn a_property_is_no_currency_and_no_events_whatever_its_name() {
    for (text, unit) in [
        ("sum(money.USD) / sum(USD)", "USD/USD"),
        ("sum(USD) / sum(USD)", ""),
        ("sum(events) / count(*)", "events/events"),
        ("sum(events) + count(*)", ""),
        ("2 / sum(USD) + 3 / sum(USD)", "1/USD"),
    ] {
        assert_eq!(parse(text).unit_name(), unit, "{text}");
    }
}

#[test]
fn texts_are_bounded() {
    let nested = format!("{}count(*){}", "(".repeat(400), ")".repeat(400));
    let long = format!("count(*){}", " ".repeat(TEXT_BYTES_MAX));
    let many: Vec<String> = (0..=AGGREGATES_MAX).map(|n| format!("count(*) filter (where d = '{n}')")).collect();
    let values: Vec<String> = (0..65).map(|n| format!("'{n}'")).collect();
    let values = format!("count(*) where d in ({})", values.join(","));
    for text in [nested, long, many.join("+"), values, "+".repeat(900), format!("{}count(*)", "-".repeat(901))] {
        assert_eq!(Formula::parse(&text).expect_err("bounded").status, 400, "{text}");
    }
}

#[test]
fn bounds_go_through_the_arithmetic() {
    let formula = parse("uniq(user) * 2 + 10");
    let number = |value: i128, bound: i128| crate::answer::Number {
        value: crate::answer::Value::Integer(value),
        method: crate::answer::Method::Hll,
        error_bound: crate::answer::Value::Integer(bound),
        state: reckon_schemas::settlement::State::Settled,
        as_of: None,
        run_id: None,
    };
    let value = formula.value(&[Estimate::of(&number(1000, 25))]).expect("in range").expect("defined");
    let (value, bound) = value.say(formula.style()).expect("in range");
    assert_eq!(serde_json::json!([value, bound]), serde_json::json!(["2010", "50"]));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    /// Whatever is written: it is refused, or it asks for events on the list of what is allowed, and nothing else.
    #[test]
    fn any_text_is_refused_or_harmless(parts in proptest::collection::vec(prop_oneof![
        Just("count(*)".to_owned()), Just("sum(money.USD)".to_owned()), Just("uniq(user)".to_owned()),
        Just(" filter (where ".to_owned()), Just("d = 'x'".to_owned()), Just(")".to_owned()), Just("(".to_owned()),
        Just(" / ".to_owned()), Just(" where ".to_owned()), Just(" and ".to_owned()), Just("'".to_owned()),
        Just("--".to_owned()), Just(";".to_owned()), Just("/*".to_owned()), Just("\\".to_owned()), Just("select ".to_owned()),
        Just(" in (".to_owned()), Just("$$".to_owned()), Just("{tenant:String}".to_owned()), ".{0,6}",
    ], 0..12)) {
        let text = parts.concat();
        if let Ok(formula) = Formula::parse(&text) {
            prop_assert!(!formula.aggregates.is_empty() && formula.aggregates.len() <= AGGREGATES_MAX);
            for aggregate in &formula.aggregates {
                prop_assert!(matches!(aggregate.measure, Measure::Count | Measure::Money | Measure::Sum | Measure::Users));
                for filter in &aggregate.filters {
                    prop_assert!(filter.test.values().iter().all(|value| text.replace("''", "'").contains(value.as_str())));
                }
            }
            prop_assert!(formula.value(&vec![None; formula.aggregates.len()]).is_ok());
        }
    }
}
