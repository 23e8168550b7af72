//! Dumps as pg_dump writes them, and with one thing changed.

use super::*;

const DUMP: &str = "\\restrict abc'def\n\n-- it's a \"comment\" with $$ and ;\n\
    CREATE DATABASE app WITH TEMPLATE = template0 ENCODING = 'UTF8' LOCALE = 'C';\n\\connect app\nSET x = 1;\n\
    -- Name: note; Type: TABLE; Schema: public; Owner: x\n-- Name: DATABASE app; Type: ACL; Schema: -; Owner: x\n\
    CREATE TABLE public.note (id integer DEFAULT '-- ;' || 'x''y', \"odd;\"\"name\" text);\n\
    CREATE FUNCTION public.f(integer) RETURNS void LANGUAGE sql AS $_$\nselect $1 - -1; -- it's\nCOPY public.fake (a) FROM stdin;\n1\n\\.\n\
    -- Name: fake; Type: TABLE; Schema: public; Owner: x\nSELECT pg_catalog.setval('public.fake', 1, true);\n$$ $x$ ' \"\n$_$;\n\
    COPY public.\"odd (name\" (id, text) FROM stdin;\n1\tx\n2\t\\.\n\\.\n\nCOPY public.empty (a) FROM stdin;\n\\.\n\
    SELECT pg_catalog.setval('public.s', 7, true);\n\
    BEGIN;\n\nSELECT pg_catalog.lo_open('11', 131072);\nSELECT pg_catalog.lowrite(0, '\\x61');\nSELECT pg_catalog.lowrite(0, '\\x62');\n\
    SELECT pg_catalog.lo_close(0);\n\nSELECT pg_catalog.lo_open('12', 131072);\nSELECT pg_catalog.lowrite(0, '\\x63');\n\
    SELECT pg_catalog.lo_close(0);\n\nCOMMIT;\nALTER TABLE ONLY public.note ADD CONSTRAINT k PRIMARY KEY (id);\n--\n\
    -- PostgreSQL database dump complete\n--\n\n";

fn scan(text: &str) -> Scan {
    read(text.as_bytes()).unwrap()
}

#[test]
fn tables_rows_and_objects_are_read_whatever_the_pieces() {
    let whole = scan(DUMP);
    let tables: Vec<(&str, u64)> = whole.tables.iter().map(|(name, table)| (name.as_str(), table.rows)).collect();
    assert_eq!(
        tables,
        [("large objects", 3), ("public.\"odd (name\"", 2), ("public.empty", 0), ("sequence values", 1)]
    );
    assert_eq!((whole.rows(), whole.count("TABLE"), whole.objects.len(), whole.complete), (2, 1, 1, true));
    assert_eq!(whole.made().as_deref(), Some("with template = template0 encoding = E'UTF8' locale = E'C'"));
    assert_eq!(whole.database.as_deref(), Some("app"));
    for piece in 1..60 {
        let mut scanner = Scanner::default();
        DUMP.as_bytes().chunks(piece).for_each(|chunk| scanner.push(chunk));
        assert_eq!(scanner.finish(), whole, "pieces of {piece}");
    }
}

#[test]
fn a_table_of_any_width_has_its_rows() {
    let columns: Vec<String> =
        (0..1600).map(|n| format!("a_rather_long_name_of_a_column_that_nobody_shortened_{n}")).collect();
    let dump = |rows: &str| {
        format!(
            "COPY public.wide ({}) FROM stdin;\n{rows}\\.\n-- PostgreSQL database dump complete\n",
            columns.join(", ")
        )
    };
    assert!(dump("").len() > 90_000);
    let full = scan(&dump("1\n2\n3\n"));
    assert_eq!((full.rows(), full.complete), (3, true));
    assert_ne!(full.content(), scan(&dump("")).content());
    assert_ne!(full.content(), scan(&dump("1\n2\n4\n")).content());
    // What is no COPY of rows ends like one.
    assert_eq!(scan("COPY public.t TO 'x FROM stdin';\n1\n2\n").tables.len(), 0);
}

#[test]
fn the_order_of_rows_does_not_matter_and_every_change_of_the_content_does() {
    let content = |from: &str, to: &str| {
        assert!(DUMP.contains(from), "{from}");
        scan(&DUMP.replacen(from, to, 1)).content()
    };
    let whole = scan(DUMP).content();
    for (from, to) in [
        ("1\tx\n2\t\\.\n", "2\t\\.\n1\tx\n"),
        ("it's a", "another"),
        ("\\restrict abc'def", "\\restrict other"),
        ("DATABASE app WITH", "DATABASE other WITH"),
        ("SET x = 1", "SET x = 2"),
    ] {
        assert_eq!(whole, content(from, to), "{from} to {to}");
    }
    let mutations = [
        ("1\tx", "1\ty"),
        ("1\tx\n", ""),
        ("1\tx\n", "1\tx\n1\tx\n"),
        ("1\tx", "1\tx "),
        ("1\tx", "1\t\\N"),
        ("1\tx\n2\t\\.\n", "1\t\\.\n2\tx\n"),
        ("(id, text)", "(text, id)"),
        ("7, true", "8, true"),
        ("7, true", "7, false"),
        ("odd (name\" (", "old (name\" ("),
        ("COPY public.empty (a) FROM stdin;\n\\.\n", ""),
        ("\\x61", "\\x64"),
        ("'\\x61'", "'\\x62'"),
        (
            "'11', 131072);\nSELECT pg_catalog.lowrite(0, '\\x61');\nSELECT pg_catalog.lowrite(0, '\\x62')",
            "'11', 131072);\nSELECT pg_catalog.lowrite(0, '\\x62');\nSELECT pg_catalog.lowrite(0, '\\x61')",
        ),
        ("lo_open('12'", "lo_open('13'"),
        ("PRIMARY KEY (id)", "UNIQUE (id)"),
        ("ALTER TABLE ONLY public.note ADD CONSTRAINT k PRIMARY KEY (id);\n", ""),
        ("select $1", "select $1 + 1"),
        ("COPY public.fake", "COPY public.other"),
        ("id integer", "id bigint"),
        ("'x''y'", "'x''z'"),
    ];
    let mut seen = std::collections::BTreeMap::from([(whole, ("", ""))]);
    for (from, to) in mutations {
        if let Some(other) = seen.insert(content(from, to), (from, to)) {
            panic!("{from:?} to {to:?} has the fingerprint of {other:?}");
        }
    }
}

#[test]
fn no_cut_dump_is_whole() {
    let end = DUMP.find("complete").unwrap();
    assert!((0..end).all(|end| !read(&DUMP.as_bytes()[..end]).unwrap().complete));
}

#[test]
fn only_statements_about_this_database_are_about_it_and_no_text_of_the_application_is() {
    let dump = "CREATE DATABASE \"my shop\" WITH TEMPLATE = template0 ENCODING = 'UTF8';\n\
        ALTER DATABASE \"my shop\" OWNER TO app;\n\\connect x\n\
        COMMENT ON DATABASE \"my shop\" IS 'a\nALTER ROLE app SUPERUSER;\n--';\n\
        CREATE FUNCTION note() RETURNS text LANGUAGE sql AS $f$ select '\n\
        -- Name: my shop; Type: DATABASE; Schema: -; Owner: app\n\nALTER ROLE app SUPERUSER;\n\
        ALTER DATABASE \"my shop\" OWNER TO evil;\n' $f$;\n\
        COMMENT ON FUNCTION note() IS '\n\nALTER DATABASE \"my shop\" OWNER TO evil;\nGRANT postgres TO app;\n';\n\
        CREATE FUNCTION loader() RETURNS text LANGUAGE sql AS $f$ select '\nCOPY t FROM stdin;\n' $f$;\n\
        COPY public.t (a) FROM stdin;\nALTER DATABASE \"my shop\" OWNER TO evil;\n\\.\n\
        ALTER DATABASE other OWNER TO evil;\nALTER ROLE app IN DATABASE other SET a TO 'b';\n\
        REVOKE ALL ON DATABASE \"my shop\" FROM PUBLIC;\n-- PostgreSQL database dump complete\n";
    let told: Vec<String> = scan(dump).properties().iter().map(|property| property.about("x")).collect();
    let wanted = [
        "alter database \"x\" owner to app",
        "comment on database \"x\" is E'a\nALTER ROLE app SUPERUSER;\n--'",
        "revoke all on database \"x\" from public",
    ];
    assert_eq!(told, wanted);
}

#[test]
fn a_tag_that_does_not_end_grows_no_longer_than_a_head() {
    let mut scanner = Scanner::default();
    scanner.push(b"SELECT $");
    (0..3).for_each(|_| scanner.push(&vec![b'a'; HEAD_BYTES_MAX]));
    assert!(matches!(scanner.place, Place::Plain));
    scanner.push(b";\n-- PostgreSQL database dump complete\n");
    assert!(scanner.finish().complete);
}
