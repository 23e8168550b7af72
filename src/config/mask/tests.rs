//! What is masked, and what stays.

use super::*;

fn masked(line: &str) -> String {
    let mut out = line.to_owned();
    for range in looks_secret(line).into_iter().rev() {
        if let Some(end) = out.get(range.start..).map(|_| range.end.min(out.len())) {
            out.replace_range(range.start..end, "***");
        }
    }
    out
}

/// Every line is shown without the secret.
fn assert_hides(secret: &str, lines: &[&str]) {
    let told: Vec<String> = lines.iter().map(|line| masked(line)).filter(|shown| shown.contains(secret)).collect();
    assert!(told.is_empty(), "{told:#?}");
}

#[test]
fn values_of_secret_names_are_masked_wherever_they_stand() {
    assert_hides(
        "hunter2",
        &[
            "password: hunter2",
            "  pasword: hunter2",
            "with: {hots: db, \"password\": \"hun\\\"ter2 hunter2\", user: x}",
            "db-token:   hunter2 # note",
            "password: {plain: hunter2}",
            "smtp: smtps://me:hunter2@mail.lan:465",
            "PGPASSWORD: 'hunter2'",
            "passphrase : \"hunter2",
            "url: https://m| e:hunter2@larder.lan",
            "url: https://me:hun/ter2?hunter2#hunter2@larder.lan",
            "url: 'https://me:hunter2'@larder.lan",
            "url: https//me:hunter2@larder.lan",
            "url: https://me:hunter2",
            "- [curl, https://hunter2@larder.lan/x, me]",
            "smtp: me:hunter2@mail.lan",
            "  - --password=hunter2",
            "  - [mysqldump, --password, hunter2]",
            "password hunter2",
            "- password = hunter2",
            "password; hunter2",
            "{host: db, password hunter2}",
            "\"password\" hunter2",
            "adminKey: hunter2",
            "Authorization: Bearer hunter2",
            "with: {token: [hunter2], x: 1}",
            "secret : : hunter2",
            "p\u{e4}ssword_token: hunter2",
            "passwd: \"a\"hunter2\"",
            "password: 'it's hunter2'",
            "secret: 'a''hunter2",
            "pw: ''hunter2''",
            "password: \"a\", \"hunter2\"",
            "key: \"\":hunter2",
            "pw: \"# x\" # hunter2",
            "{key: \"a\"} hunter2",
            "secret:\"a\\\"hunter2",
            "auth: \"user:hunter2",
            "body: curl -u me:hunter2 https://x: [",
            "[curl, --user, me:hunter2, x]",
        ],
    );
}

#[test]
fn a_name_is_known_by_its_letters_however_it_is_written() {
    assert_hides(
        "Hk7wq",
        &[
            "password\u{a0}: Hk7wq!x",
            "password?: Hk7wq!x",
            "password*: Hk7wq!x",
            "password+: Hk7wq!x",
            "password[0]: Hk7wq!x",
            "{password[0]: Hk7wq!x}",
            "password/old: Hk7wq!x",
            "password(old): Hk7wq!x",
            "password of the nas: Hk7wq!x",
            "password, old: Hk7wq!x",
            "(password): Hk7wq!x",
            "<password>: Hk7wq!x",
            "\"my \\\"password\\\"\": Hk7wq!x",
            "password\u{ff1a} Hk7wq!x",
            "password\u{ff1a}Hk7wq!x",
            "password\u{fe55}Hk7wq!x",
            "password\u{2236} Hk7wq!x",
            "password\u{ff1d}Hk7wq!x",
            "with: password\u{ff1a} Hk7wq!x",
            "\u{201c}password\u{201d}: Hk7wq!x",
            "\u{2018}password\u{2019} Hk7wq!x",
            "\u{201e}password\u{201c}: Hk7wq!x",
            "pass\u{ad}word: Hk7wq!x",
            "password\u{200b}: Hk7wq!x",
            "pass\u{200b}word\u{2060}: Hk7wq!x",
            "\u{ff50}\u{ff41}\u{ff53}\u{ff53}\u{ff57}\u{ff4f}\u{ff52}\u{ff44}: Hk7wq!x",
            "\u{440}assw\u{43e}rd: Hk7wq!x",
            "\"pass\\u0077ord\": Hk7wq!x",
            "\"pass\\x77ord\": Hk7wq!x",
            "\"p\\U00000061ss\\u0077ord\": Hk7wq!x",
            "\"password\\u003a\": Hk7wq!x",
            "pass word: Hk7wq!x",
            "pass.word: Hk7wq!x",
            "p a s s w o r d: Hk7wq!x",
            "passphrse: Hk7wq!x",
            "pasphrase: Hk7wq!x",
            "passwrod: Hk7wq!x",
            "pssword: Hk7wq!x",
            "tokn: Hk7wq!x",
            "secrt: Hk7wq!x",
            "credentals: Hk7wq!x",
            "pa$$word: Hk7wq!x",
            "p@ssw0rd: Hk7wq!x",
            "sshkey: Hk7wq!x",
            "requirepass: Hk7wq!x",
            "adminPin: Hk7wq!x",
            "pin: Hk7wq!x",
            "{user: x, salt: Hk7wq!x}",
        ],
    );
}

#[test]
fn any_sign_or_a_blank_stands_between_a_name_and_its_value() {
    assert_hides(
        "Hk7wq",
        &[
            "password|Hk7wq!x",
            "password/Hk7wq!x",
            "password-Hk7wq!x",
            "- password-Hk7wq!x",
            "password_Hk7wq!x",
            "password~Hk7wq!x",
            "password>Hk7wq!x",
            "password -> Hk7wq!x",
            "password => Hk7wq!x",
            "password->Hk7wq!x",
            "password := Hk7wq!x",
            "password | Hk7wq!x",
            "password\u{2192}Hk7wq!x",
            "password\u{a0}Hk7wq!x",
            "password\tHk7wq!x",
            "token|Hk7wq!x",
            "password[Hk7wq!x]",
            "password(Hk7wq!x)",
            "- password/Hk7wq!x",
            "{host: db, password|Hk7wq!x}",
            "[password, Hk7wq!x]",
            "with: [token, Hk7wq!x]",
            "[\"password\", \"Hk7wq,!x\"]",
            "with: [password, Hk7wq!x",
            "{password, Hk7wq!x}",
            "password, Hk7wq!x",
            "password#Hk7wq!x",
            "password #Hk7wq!x",
            "!password Hk7wq!x",
            "with: password Hk7wq!x",
            "password\u{ff03}Hk7wq!x",
            "password \u{ff03}Hk7wq!x",
            "password \u{ff0c}Hk7wq!x",
            "password\u{ff0c}\u{ad} Hk7wq!x",
            "pass\u{ad}word-Hk7wq!x",
            "{pass\u{200b}word_Hk7wq!x}",
        ],
    );
}

#[test]
fn what_is_no_place_in_a_reference_is_masked() {
    assert_hides(
        "Hk7wq",
        &[
            "password: {env: [Hk7wq!x]}",
            "password: {env: {x: Hk7wq!x}}",
            "password: {file: {plain: Hk7wq!x}}",
            "password: {file: [/x, Hk7wq!x]}",
            "with: {password: {env: {x: Hk7wq!x}}, host: db.lan}",
            "password: {file: /x, env: {y: Hk7wq!x}}",
            "password: {secret: >Hk7wq!x}",
            "key_file: /run/x Hk7wq!x",
            "password: {env: X Hk7wq!x}",
            "password: {file: \"/x\" Hk7wq!x}",
            "password_file: Hk7wq!x",
        ],
    );
}

#[test]
fn arguments_of_commands_are_masked() {
    assert_hides(
        "Hk7wq",
        &[
            "run: mysql --password Hk7wq!x",
            "- wget --http-password Hk7wq!x https://x.lan",
            "run: --token Hk7wq!x",
            "  - --token Hk7wq!x",
            "[mysqldump, -p, Hk7wq!x]",
            "[\"mysqldump\", \"-p\", \"Hk7wq!x\"]",
            "[mysqldump, -pHk7wq!x]",
            "exec: /usr/bin/mariadb-dump -pgeheimHk7wq app",
            "exec: mysql -p secretHk7wq",
            "- -pHk7wq!x",
            "exec: redis-cli -a Hk7wq!x ping",
            "curl -ume:Hk7wq!x https://x.lan",
            "curl -u me:Hk7wq!x https://x.lan",
            "curl -su me:Hk7wq!x https://x.lan",
            "curl -sume:Hk7wq!x https://x.lan",
            "[curl, -u, \"me:Hk7wq!x\", x]",
            "[curl, \"-ume:Hk7wq!x\", x]",
            "curl --proxy-user me:Hk7wq!x x",
            "openssl x -passphrase Hk7wq!x",
            "exec: [x, '--api-key', 'Hk7wq!x']",
            "REDISCLI_AUTH=Hk7wq!x",
            "exec: AUTH=Hk7wq!x run",
            "exec: env PGPASSWORD=Hk7wq!x pg_dump",
        ],
    );
}

#[test]
fn logins_and_addresses_are_masked() {
    assert_hides(
        "Hk7wq",
        &[
            "auth: Hk7wq!x",
            "auth: Basic Hk7wq!x",
            "auth: [me:Hk7wq!x]",
            "auth: \"Basic Hk7wq!x\"",
            "{auth: Basic Hk7wq!x, host: y}",
            "basic_auth: Hk7wq!x",
            "authorization: Bearer Hk7wq!x",
            "url: https://me%3AHk7wq%40h",
            "url: https://me%3aHk7wq%40h/x",
            "url: https://me%253AHk7wq%2540h/x",
            "url: https\u{ff1a}//me:Hk7wq\u{ff20}h",
            "url: https://x.lan/a?sig=Hk7wq",
            "url: https://x.lan/a?b=1&X-Amz-Signature=Hk7wq",
            "url: https://x.lan/a?code=Hk7wq&b=1",
            "url: https://x.lan/a?access_token=Hk7wq",
            "url: https://hooks.slack.com/services/T0/B0/Hk7wq",
            "url: https://discord.com/api/webhooks/1/Hk7wq",
            "url: \"https://discordapp.com/api/webhooks/1/Hk7wq\"",
            "url: hooks.slack.com/services/T0/B0/Hk7wq",
            "url: https://api.telegram.org/bot12:Hk7wq/sendMessage",
            "smtp: smtps://me:Hk7wq:587",
            "smtp: smtps://me:Hk7wq/x:587",
            "smtp: smtps:me:Hk7wq:587",
            "smtp: smtps:/me:Hk7wq:587",
        ],
    );
}

#[test]
fn what_says_by_itself_to_be_a_secret_is_masked_in_any_field() {
    assert_hides(
        "Hk7wq",
        &[
            "note: AGE-SECRET-KEY-1Hk7wq",
            "x: [a, \"ghp_Hk7wq\", b]",
            "clone https://x.lan/glpat-Hk7wq",
            "x: Bearer Hk7wq!x",
            "header: \"Basic aHk7wq=\"",
            "note: \"-----BEGIN PRIVATE KEY-----\\nHk7wq\\n-----END PRIVATE KEY-----\"",
            "env: [{name: DB_PASSWORD, value: Hk7wq!x}, {name: HOST, value: x}]",
            "- {\"name\": \"api token\", \"value\": \"Hk7wq!x\"}",
        ],
    );
}

#[test]
fn references_and_common_fields_are_shown() {
    let lines = [
        "password: {file: /run/nas}",
        "password: {file: \"/run/a, b\"}",
        "with: {password: {file: /run/nas}, host: db.lan}",
        "password: {file: /run/nas, env: X}",
        "with: {tls: {key: {file: /run/nas}}, token: {env: X}}",
        "keep_runs: 3",
        "host: db.lan",
        "smtp: smtps://mail.lan:465",
        "url: https://[::1]:8420/x",
        "password:",
        "paths: [/srv/private/x, /b]",
        "name: token-service",
        "to: [me@home.lan]",
        "auth: {type: basic}",
        "basic: https://x.lan/a",
        "exec: [run, -u, me, now]",
        "key_file: /run/keys/nas",
        "with: {password_file: \"/run/nas\", host: db.lan}",
        "{key_file: /run/nas, host: db.lan}",
        "- --password-file /run/nas",
        "exec: [pg_dump, --no-password, -U, larder, app]",
        "exec: [mkdir, -p, /srv/x, backups]",
        "exec: ssh -p 2222 nas.lan",
        "exec: [docker, run, -p, \"8080:80\", x]",
        "exec: find /x -perm 600 -print",
        "exec: [mysqldump, -u, root, app]",
        "exec: [/etc/larder/hooks/pre.sh, x]",
        "paths: [/srv/hooks/x, hooks/y]",
        "exclude: [secret/x, private/**, token*, \"*.key\"]",
        "destinations: [token-nas, private-nas, cellar]",
        "- secret-nas",
        "name: token service",
        "  token, daily]",
        "password: {file: /run/my nas}",
        "exec: ssh -L 80:db:80 -v nas.lan",
        "exec: [docker, run, -v, \"/srv:/data\"]",
        "- token",
        "private-notes",
        "keep: {daily: 7, weekly: 4}",
        "keep: 3",
        "auth: none",
        "{auth: basic, user: me}",
        "schedule: \"0 2 * * *\"",
        "hosts: https://[fe80::1]:443, http://10.0.0.1:80",
        "url: https://x.lan/a?page=1&b=2",
        "compass: north",
        "passed: 3",
        "size: 100%",
        "# the keys of the house",
        "max_age: 26h",
        "to: me%40home",
        "note: the basic setting of the bearer",
        "note: Basic login",
        "prefix: ghp_",
        "{name: HOST, value: db.lan}",
        "all: [{password: {env: X}}, {host: db.lan}]",
        "{name: token-service, host: db.lan}",
    ];
    let hidden: Vec<String> = lines.iter().filter(|line| masked(line) != **line).map(|line| masked(line)).collect();
    assert!(hidden.is_empty(), "{hidden:#?}");
}

#[test]
fn a_place_is_shown_up_to_a_length() {
    for (before, behind) in [("password: {file: /", "}"), ("password: {env: ", "}"), ("key_file: /", "")] {
        let line = |length: usize| format!("{before}{}{behind}", "x".repeat(length));
        assert_eq!(masked(&line(4000)), line(4000));
        assert!(!masked(&line(4200)).contains("xx"), "{before}");
    }
}

#[test]
fn a_line_of_any_length_is_looked_at_without_end_of_stack_or_time() {
    let longest = ["env:,", "{file: /x, ", "password: {env: X}, ", "a@b:c,", "//u:p", "pw: 'a'', "];
    let long = [
        "pw={env: X}, ",
        "pw=\"a\", ",
        "a:b@",
        "@",
        "//",
        "[key,",
        "[key,\"",
        "password[",
        "- ",
        "%25",
        "\\u0077",
        "\u{ad}",
        "-p ",
        "-u ",
        "--key ",
        "hooks.x/",
        "auth: [",
        "auth:a://",
        "smtp:",
        "?",
        "x",
        "A",
    ];
    let max = 256 * 1024;
    let half = |part: &str| part.repeat(max / 8 / part.len());
    let all = longest.map(|part| format!("password: {{{}", part.repeat(max / part.len()))).into_iter();
    let all = all.chain(long.map(|part| part.repeat(max / 4 / part.len()))).chain([
        format!(":{}{}", half("/"), half("@")),
        half("-u,") + ":",
        half("-u [") + ",",
        half("-u a://") + ",",
        half("-pA1xx\"") + ",",
        half("-p/(") + ",",
        half("-p-A("),
        half("\""),
        half("PRIVATE KEY-----BEGIN"),
        "-----BEGIN".to_owned() + &half("PRIVATE KEY"),
        half("name:token,value:{env:"),
        half("- -u\n"),
        half("[-u,\n"),
        half("//\n@"),
        half("Bearer ghp_"),
        half("auth:{env:"),
        half("key:{secret:"),
        half("passwd'{env:"),
        half("passwd_file#/a:"),
    ]);
    for line in all {
        let text = format!("a: 1\n{line}\nb: 2\n");
        let begin: String = line.chars().take(20).collect();
        let places = secrets_of(&text);
        assert!(places.iter().all(|range| text.get(range.clone()).is_some()), "{begin}");
        repeated(&text, &places);
    }
}

#[test]
fn what_stands_in_or_behind_a_reference_is_none() {
    for (line, shown) in [
        ("password: {env: X, default: geheim}", "password: {env: X***"),
        ("password: {file: /x, value: geheim}", "password: {file: /x***"),
        ("password: {file: \"/x, y\", value: geheim}", "password: {file: \"/x, y\"***"),
        ("password: {file: /x} geheim", "password: {file: /x}***"),
        ("password: {file: /x}, {x: geheim", "password: {file: /x}***"),
        ("password: {file: /x}, geheim", "password: {file: /x}***"),
        ("password: {file: /x}: geheim", "password: {file: /x}***"),
        ("password: {file: /x geheim", "password: {file: /x***"),
        ("basic: [u, geheim]", "basic: [u,***"),
        ("auth: [\"u\", \"geheim\"]", "auth: [\"u\",***"),
    ] {
        assert_eq!(masked(line), shown, "{line}");
    }
}

#[test]
fn a_broken_line_after_a_secret_is_taken_for_its_rest() {
    let text = "user: x\npassword: \"hun\n\nter2: 1\n";
    assert!(continues_a_secret(text, text.find("ter2").unwrap()));
    assert!(!continues_a_secret(text, text.find("password").unwrap()));
}

#[test]
#[expect(clippy::too_many_lines, reason = "a table")]
fn a_secret_over_several_lines_is_one() {
    for text in [
        "a: 1\npassword: |\n  hunter2\n  hunter3\nb: 2\n",
        "a: 1\npassword: \"hunter2\n\nhunter3\" \nb: 2\n",
        "a: 1\npassword:\n  hunter2\n   hunter3\nb: 2\n",
        "a: 1\n- password: hunter2\n     hunter3\nb: 2\n",
        "a: 1\nw: {u: x, access-token:\n  hunter2, hunter3\nb: 2\n",
        "a: 1\napi_key:\n- hunter2\n- hunter3}\nb: 2\n",
        "a: 1\n? password\n  : hunter2\nb: 2\n",
        "a: 1\nw:\n    ? password\n  : hunter2\nb: 2\n",
        "a: 1\nw: {x: y, ? password\n   = {x: hunter2}\nb: 2\n",
        "a: 1\naccess-token=\n    hunter2\nb: 2\n",
        "a: 1\nw: {\"pw\": \"x\n  hunter2\nhunter3\"}\nb: 2\n",
        "a: 1\ntoken\n  hunter2\nb: 2\n",
        "a: 1\npassword;\n  hunter2\nb: 2\n",
        "a: 1\npassword ->\n  hunter2\nb: 2\n",
        "a: 1\nw: {u: x, password\n  hunter2\nb: 2\n",
        "a: 1\npassword\n  : hunter2\nb: 2\n",
        "a: 1\npassword\n: hunter2\nb: 2\n",
        "a: 1\npassword\u{ff1a}\n  hunter2\nb: 2\n",
        "a: 1\npassword:\nhunter2\nb: 2\n",
        "a: 1\npassword: |\nhunter2\nb: 2\n",
        "a: 1\npassword: {env: X,\n  hunter2}\nb: 2\n",
        "a: 1\npassword: \"x\n  hunter2\" hunter3\nb: 2\n",
        "a: 1\npassword: {file: /x}\n  hunter2\nb: 2\n",
        "a: 1\npassword: {file: /x\n  hunter2}\nb: 2\n",
        "a: 1\npassword: \"x\"\n  hunter2\nb: 2\n",
        "a: 1\npassword:\n  file: /x\n  hunter2\nb: 2\n",
        "a: 1\npassword:\n  file: {plain: hunter2}\nb: 2\n",
        "a: 1\npassword:\n  env:\n    hunter2\nb: 2\n",
        "a: 1\nauth:\n  hunter2\nb: 2\n",
        "a: 1\nexec:\n  - mysql\n  - --password\n  - hunter2\n  - x\nb: 2\n",
        "a: 1\nexec:\n  - mysql\n  - --password\n\n  - hunter2\n  - x\nb: 2\n",
        "a: 1\nexec:\n  - mysql\n  - --password\n # of the host\n\n  - hunter2\n  - x\nb: 2\n",
        "a: 1\npassword: \"hun\n  a\\\"b\n  hunter2\"\nb: 2\n",
        "a: 1\npassword: 'hun\n  a''b\n  hunter2'\nb: 2\n",
        "a: 1\npassword: \"hun\n  a\" b\n  hunter2\nb: 2\n",
        "a: 1\nw: {password: \"hun\n  a\", token: hunter2}\nb: 2\n",
        "a: 1\nw: {password: \"hun\n  a\", token: \"x\nhunter2\"}\nb: 2\n",
        "a: 1\nw: {token: {env: X}, password\n  hunter2\nb: 2\n",
        "a: 1\nw: {key_file: /x, password\n  hunter2\nb: 2\n",
        "a: 1\npassword: \"a\" b\n  hunter3\nb: 2\n",
        "a: 1\npassword: {file: /x} b\n  hunter3\nb: 2\n",
        "a: 1\npassword:\n# of the nas\n  hunter2\nb: 2\n",
        "a: 1\npassword: # of the nas\n# and more\n  hunter2\nb: 2\n",
        "a: 1\n? password\n: |\n  hunter2\n  hunter3\nb: 2\n",
        "a: 1\nexec: [x, --password,\n  hunter2]\nb: 2\n",
        "a: 1\nexec: [x, -u,\n  me:hunter2]\nb: 2\n",
        "a: 1\nwith: [password,\n  # of the nas\n  hunter2]\nb: 2\n",
        "a: 1\nexec:\n  - x\n  - -p\n  - hunter2A\nb: 2\n",
        "a: 1\nexec:\n  - curl\n  - \"-u\"\n\n  - 'me:hunter2'\nb: 2\n",
        "a: 1\nurl: >-\n  https://me:\n  hunter2@x.lan\nb: 2\n",
        "a: 1\nurl: \"https://me:1\n  hunter2@x.lan\"\nb: 2\n",
        "a: 1\nnote: -----BEGIN RSA PRIVATE KEY-----\nhunter2\n\nhunter3\n-----END RSA PRIVATE KEY-----\nb: 2\n",
        "a: 1\nnote: |\n  -----BEGIN PGP PRIVATE KEY BLOCK-----\n  X: hunter2\n  hunter3\nb: 2\n",
        "a: 1\nkey: |\n-----BEGIN PRIVATE KEY-----\nhunter2\n-----END PRIVATE KEY-----\nb: 2\n",
        "a: 1\nenv:\n  - name: DB_PASSWORD\n    value: hunter2\nb: 2\n",
        "a: 1\nenv:\n  - name: \"DB_PASSWORD\"\n\n    value: |\n      hunter2\nb: 2\n",
        "a: 1\nenv:\n  - {name: DB_PASSWORD,\n    value: hunter2}\nb: 2\n",
        "a: 1\nenv:\n  - {name: nas, password:\n      hunter2}\nb: 2\n",
        "a: 1\nenv:\n  - {name: db, password: \"hun\n  hunter3\"}\nb: 2\n",
        "a: 1\nenv:\n  - {name: db, password: 'hun\nx: hunter3'}\nb: 2\n",
        "a: 1\nenv:\n  - {name: db, token: |\n      hunter2\nb: 2\n",
        "a: 1\n- {name: API_TOKEN, password: {env: X\n    hunter2}}\nb: 2\n",
        "a: 1\nheader: \"Authorization:\n  hunter2\"\nb: 2\n",
        "a: 1\nvariable: db, password:\n  hunter2\nb: 2\n",
        "a: 1\nenv:\n  - {name: DB_PASSWORD, type: env,\n    value: hunter2}\nb: 2\n",
        "a: 1\n-----BEGIN RSA PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\nDEK-Info: AES-128-CBC,hunter1\n\nhunter2\n\
         hunter3\n-----END RSA PRIVATE KEY-----\nb: 2\n",
        "a: 1\nkey: -----BEGIN PGP PRIVATE KEY BLOCK-----\nVersion: 1\nComment: hunter1\n  hunter4\nHash:\n\nhunter2\n\
         hunter3\n-----END PGP PRIVATE KEY BLOCK-----\nb: 2\n",
        "a: 1\nw:\n  key: |\n    -----BEGIN RSA PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\n\nhunter2\nhunter3\n\
         -----END RSA PRIVATE KEY-----\nb: 2\n",
        "a: 1\nw:\n  key: |\n    -----BEGIN PRIVATE KEY-----\nhunter2\nhunter3\n-----END PRIVATE KEY-----\n    hunter4\n\
         b: 2\n",
        "a: 1\nw:\n  note: x\n-----BEGIN RSA PRIVATE KEY-----\r\nProc-Type: 4,ENCRYPTED\r\n\r\nhunter2\r\n\
         -----END RSA PRIVATE KEY-----\r\nb: 2\n",
        "a: 1\n- name: TLS_KEY\n  value: -----BEGIN RSA PRIVATE KEY-----\n  Proc-Type: 4,ENCRYPTED\n\n  hunter2\n\
         -----END RSA PRIVATE KEY-----\nb: 2\n",
        "a: 1\nexec:\n- x\n- --key\n- -----BEGIN RSA PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\n\nhunter2\nhunter3\n\
         -----END RSA PRIVATE KEY-----\nb: 2\n",
        "a: 1\n-----BEGIN RSA PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\n\nhunter2\nb: 2\n",
        "a: 1\nkeys:\n- -----BEGIN PRIVATE KEY-----\n- {b: 2}\n",
        "a: 1\r\npassword:\r\n  hunter2\r\nb: 2\r\n",
        "a: 1\npassword: &x !!str |\n\thunter2\nb: 2\n",
    ] {
        let mut left = text.to_owned();
        for range in secrets_of(text).into_iter().rev() {
            left.replace_range(range, MASK);
        }
        assert!(!left.contains("hunter") && left.contains("a: 1") && left.contains("b: 2"), "{left}");
    }
    for text in [
        "password:\n  file: /run/x\npassword: {env: X}\nb: 2\n",
        "password:\n  file: /run/x # on the host\nb: 2\n",
        "policies:\n- token\n- daily\n",
        "auth:\n  type: basic\n  user: me\n",
        "with: {password: {file: /x},\n  host: db.lan}\n",
        "password: {file: /x}\n  host: db.lan\nb: 2\n",
        "password: {env: X}\n\n# host\nb: 2\n",
        "exec:\n  - pg_dump\n  - --no-password\n  - app\n",
        "key_file: /x\nb: 2\n",
        "exec:\n  - x\n\n  - --no-password\n\n  - app\n",
        "with: {password: {file: /x}, user: me,\n  host: db.lan}\n",
        "exec: [psql, -u,\n  root]\n",
        "exec:\n  - psql\n  - -u\n  - root\n  - -p\n  - \"5432\"\n  - app\n",
        "destinations: [token-nas, cellar,\n  secret-nas]\n",
        "env:\n  - name: token-service\n    host: db.lan\n  - name: HOST\n    value: db.lan\n",
        "env: [{name: DB_PASSWORD, value: {env: X}}, {name: HOST, value: db.lan}]\n",
        "env:\n  - {name: nas, password: {file: /x},\n    host: db.lan}\n  - {name: token-service, host: db.lan}\n",
        "env:\n  - {name: nas, password: {env: X}}\n  - name: HOST\n    value: db.lan\n",
        "urls:\n  - https://x.lan\n  - me@home.lan\n",
        "note: see https://x.lan\n  and go on\n",
        "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\nnote: the PRIVATE KEY is there\n",
    ] {
        assert_eq!(secrets_of(text).iter().map(|range| &text[range.clone()]).collect::<Vec<_>>(), [""; 0], "{text}");
    }
}

#[test]
fn a_message_repeats_no_secret_and_no_userinfo() {
    let text = "password: hunter2\ntoken: {secret: nas}\nurl: ftp://me:geheim1@h\n";
    let secrets = repeated(text, &secrets_of(text));
    assert_eq!(cleaned("`hunter2` is no number, see nas and geheim1", &secrets), "`***` is no number, see nas and ***");
    assert_eq!(cleaned("`x://a:b@c` is no address", &[]), "`x://***@c` is no address");
    let wide = "the value `https\u{ff1a}//a:b@c` is no address";
    assert_eq!(cleaned(wide, &[]), "the value `https\u{ff1a}//***@c` is no address");
    assert_eq!(cleaned("the text `password\u{ff1a} geheim`", &[]), "the text `password\u{ff1a} ***`");
    for shown in ["`token-nas` and `private/x`", "`secret-x`: `*.key`", "add `password: {file: /path}`, {env: NAME} or"]
    {
        assert_eq!(cleaned(shown, &[]), shown);
    }
    assert_eq!(
        cleaned("`with` has no field `pw= > a geheim1`, see `password: {file: /x}`", &[]),
        "`with` has no field `pw= ***`, see `password: {file: /x}`"
    );
}

#[test]
fn a_message_repeats_what_is_called_a_secret_and_no_name_of_a_place() {
    let fields = "client_secret: hunter21\ndb-secret: hunter22\naws_credential: hunter23\nsecret: hunter24\n\
                  with: {secret: hunter25}\nw:\n  secret: hunter26\n- {host: x, secret: hunter27}\n";
    let places = "password: {secret: nas-one}\ntoken:\n  secret: nas-two\nkey: {file: /x, secret: nas-three}\n";
    let text = format!("{fields}{places}");
    let two = text.find("nas-two").map(|at| at..at + "nas-two".len());
    let places: Vec<Range<usize>> = secrets_of(&text).into_iter().chain(two).collect();
    let secrets = repeated(&text, &places);
    for number in 21..=27 {
        assert_eq!(cleaned(&format!("see hunter{number}"), &secrets), "see ***");
    }
    for shown in ["see nas-one", "see nas-two", "see nas-three"] {
        assert_eq!(cleaned(shown, &secrets), shown);
    }
}
