//! Dumps as mariadb-dump writes them, and with one thing changed.

use super::*;

const DUMP: &str = "/*M!999999\\- enable the sandbox mode */ \n-- MariaDB dump\n\nUSE `od``d`;\n\
    CREATE TABLE `t` (\n  `a` int\n);\nINSERT INTO `t` VALUES\n(1,'a;b\\'\\n)(-- Dump completed',0x00FF),\n(2,'it''s',NULL);\n\
    CREATE TABLE `e``1` (\n  `a` int\n);\nDELIMITER ;;\n/*!50003 CREATE*/ trigger x\nCREATE TABLE `no` (\n*/;;\nDELIMITER ;\n\
    /*!50001 VIEW `v` AS select 1 */;\n\n-- Dump completed on 2026-11-22  7:15:07\n";

fn scan(text: &str, piece: usize) -> Scan {
    let mut scanner = Scanner::default();
    text.as_bytes().chunks(piece).for_each(|chunk| scanner.push(chunk));
    scanner.finish()
}

#[test]
fn tables_rows_and_objects_are_read_whatever_the_pieces() {
    let whole = scan(DUMP, 1 << 20);
    assert_eq!(whole.tables.keys().collect::<Vec<_>>(), ["e``1", "t"]);
    assert_eq!((whole.rows(), whole.counts.views, whole.counts.triggers, whole.counts.routines), (2, 1, 1, 0));
    assert!(whole.complete);
    assert_eq!(whole.database.as_deref(), Some("od``d"));
    for piece in 1..40 {
        assert_eq!(scan(DUMP, piece), whole, "pieces of {piece}");
    }
}

#[test]
fn the_order_of_rows_and_inserts_does_not_matter_and_each_value_does() {
    let rows = |text: &str| scan(text, 7).tables;
    let one = rows("INSERT INTO `t` VALUES (1,'x'),(2,'(y)');\n");
    assert_eq!(one, rows("INSERT INTO `t` (`a`, `b VALUES`) VALUES\n(2,'(y)');\nINSERT INTO `t` VALUES\n(1,'x');\n"));
    assert_eq!(one["t"].rows, 2);
    for other in [
        "INSERT INTO `t` VALUES (1,'x'),(2,'(z)');\n",
        "INSERT INTO `t` VALUES (1,'x');\n",
        "INSERT INTO `u` VALUES (1,'x'),(2,'(y)');\n",
    ] {
        assert_ne!(one, rows(other));
    }
}

#[test]
fn no_cut_dump_is_whole() {
    let trailer = DUMP.rfind("-- Dump completed").unwrap() + TRAILER.len();
    for end in 0..trailer {
        assert!(DUMP.is_char_boundary(end) && !scan(&DUMP[..end], 64).complete, "{end} bytes");
    }
}

proptest::proptest! {
    #[test]
    fn any_value_is_one_row(value in "[ -~\\n\\\\'()]{0,40}") {
        let escaped = value.replace('\\', "\\\\").replace('\'', "\\'").replace('\n', "\\n");
        let scanned = scan(&format!("INSERT INTO `t` VALUES (1,'{escaped}'),(2,NULL);\n-- Dump completed\n"), 5);
        proptest::prop_assert_eq!(scanned.rows(), 2);
        proptest::prop_assert!(scanned.complete);
    }
}

#[test]
fn a_table_of_any_width_has_its_rows() {
    let columns: Vec<String> = (0..2000).map(|n| format!("`a_rather_long_name_of_a_column_that_has_{n}`")).collect();
    let dump = |rows: &str| format!("INSERT INTO `wide` ({}) VALUES\n{rows};\n-- Dump completed\n", columns.join(", "));
    let full = scan(&dump("(1,'a'),\n(2,'b')"), 1 << 20);
    assert_eq!((full.rows(), full.complete), (2, true));
    assert_ne!(full.content(), scan(&dump("(1,'a'),\n(2,'c')"), 99).content());
}

#[test]
fn what_stands_in_a_body_is_no_object_and_no_row() {
    let body = "DELIMITER ;;\nCREATE DEFINER=`x` PROCEDURE `p`()\nBEGIN\nCREATE TEMPORARY TABLE t AS SELECT ' FUNCTION ';\n\
                INSERT INTO `t` VALUES (1),(2);\nCREATE FUNCTION x\n-- Dump completed\nEND ;;\n\
                CREATE DEFINER=`x` FUNCTION `f`() RETURNS int\nRETURN 1 ;;\nDELIMITER ;\n-- Dump completed\n";
    let found = scan(body, 64);
    assert_eq!((found.counts.routines, found.rows(), found.tables.len(), found.complete), (2, 0, 0, true));
}

#[test]
fn every_change_of_the_content_changes_its_fingerprint() {
    const WHOLE: &str = "USE `d`;\nCREATE TABLE `t` (\n  `a` int,\n  `b` text\n);\nINSERT INTO `t` VALUES\n(1,'x'),\n(2,NULL);\n\
        CREATE TABLE `u` (\n  `a` int\n);\nCREATE SEQUENCE `s` start with 1;\nDO SETVAL(`s`, 42, 0);\n\
        DELIMITER ;;\n/*!50003 CREATE*/ /*!50003 TRIGGER t BEFORE INSERT ON t FOR EACH ROW SET NEW.a = 1 */;;\nDELIMITER ;\n\
        DELIMITER ;;\nCREATE DEFINER=`x` FUNCTION `f`() RETURNS int\n-- the author's\nRETURN 1 ;;\nDELIMITER ;\n\
        /*!50001 VIEW `v` AS select 1 */;\n-- Dump completed on 2026-11-22  7:15:07\n";
    let content = |from: &str, to: &str| {
        assert!(WHOLE.contains(from), "{from}");
        scan(&WHOLE.replacen(from, to, 1), 50).content()
    };
    let whole = scan(WHOLE, 7).content();
    assert_eq!(whole, content("7:15:07", "9:00:00"));
    assert_eq!(whole, content("(1,'x'),\n(2,NULL)", "(2,NULL),\n(1,'x')"));
    let mut seen = std::collections::BTreeMap::from([(whole, ("", ""))]);
    for (from, to) in [
        ("'x'", "'y'"),
        ("'x'", "'x '"),
        ("'x'", "NULL"),
        ("NULL", "''"),
        ("(1,'x'),\n(2,NULL)", "(1,NULL),\n(2,'x')"),
        ("(1,'x'),\n", ""),
        ("(2,NULL)", "(2,NULL),(2,NULL)"),
        ("INSERT INTO `t` VALUES", "INSERT INTO `u` VALUES"),
        ("INSERT INTO `t` VALUES", "INSERT INTO `t` (`b`, `a`) VALUES"),
        ("`b` text", "`b` blob"),
        ("  `a` int,\n  `b` text", "  `b` text,\n  `a` int"),
        ("CREATE TABLE `u` (\n  `a` int\n);\n", ""),
        ("`s`, 42", "`s`, 43"),
        ("NEW.a = 1", "NEW.a = 2"),
        ("RETURN 1", "RETURN 2"),
        ("the author's", "nobody's"),
        ("select 1", "select 2"),
        ("/*!50001 VIEW `v` AS select 1 */;\n", ""),
    ] {
        if let Some(other) = seen.insert(content(from, to), (from, to)) {
            panic!("{from:?} to {to:?} has the fingerprint of {other:?}");
        }
    }
}

#[test]
fn a_name_with_line_ends_in_it_is_one_name() {
    let dump = "CREATE TABLE `a\nCREATE TABLE `` (\nb` (\n  `x` int\n);\nINSERT INTO `a\nCREATE TABLE `` (\nb` VALUES\n(1),\n(2);\n\
                CREATE TABLE `c` (\n  `x` int\n);\nINSERT INTO `c` VALUES\n(1);\n-- Dump completed\n";
    for piece in [1, 7, 1_000] {
        let found = scan(dump, piece);
        assert_eq!(found.tables.keys().collect::<Vec<_>>(), ["a\nCREATE TABLE `` (\nb", "c"]);
        assert_eq!((found.rows(), found.complete), (3, true));
    }
}

#[test]
fn events_that_end_by_themselves_are_told_from_those_that_stay() {
    let event = |rest: &str| format!("/*!50106 CREATE*/ /*!50117 DEFINER=`r`@`%`*/ /*!50106 EVENT {rest} DO x */ ;;\n");
    let dump = [
        event("`once` ON SCHEDULE AT '2026-11-29 11:03:44' ON COMPLETION NOT PRESERVE ENABLE"),
        event("`kept` ON SCHEDULE AT '2026-11-29 11:03:44' ON COMPLETION PRESERVE ENABLE"),
        event("`daily` ON SCHEDULE EVERY 1 DAY STARTS '2026-11-29 10:03:44' ON COMPLETION NOT PRESERVE ENABLE"),
        event("`fin` ON SCHEDULE EVERY 1 DAY STARTS 'a' ENDS '2026-12-02 10:03:44' ON COMPLETION NOT PRESERVE ENABLE"),
    ];
    let found = scan(&format!("DELIMITER ;;\n{}DELIMITER ;\n-- Dump completed\n", dump.concat()), 64);
    let passing: Vec<&str> =
        found.events.iter().filter(|(_, passes)| **passes).map(|(name, _)| name.as_str()).collect();
    assert_eq!((found.counts.events, passing), (4, vec!["fin", "once"]));
}
