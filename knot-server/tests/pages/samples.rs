//! Pages rendered from sample data in which every text that a person could have written is hostile.

use askama::Template;
use knot_server::{
    api::types::{
        Desired, Observed, Orphan, ServerState, Start, TemplateParameter,
        ports::{Access, Port, Ports},
    },
    pages::{
        Chart, ChosenTemplate, Chrome, Conflict, ConflictingValue, Dependency, ErrorPage, FieldRow,
        GroupRow, GroupsPage, HistoryPage, Invalid, LocalPath, MayDo, NewSpacePage, OutdatedSpace,
        ParameterField, Placing, RevisionRow, SavedTemplate, ServerChoice, ServerRow, ServersPage,
        Settings, Sharing, SignInPage, SpaceFacts, SpacePage, SpaceRow, SpacesPage, TemplateChoice,
        TemplatePage, TemplateRow, TemplatesPage, TerminalPage, VariableRow, VariablesPage,
        VolumePlace, VolumeRow, VolumesPage,
    },
};

pub(crate) const HOSTILE: &str = "\"'><script>alert(1)</script>";

pub(crate) fn chrome() -> Chrome {
    Chrome { user: Some(HOSTILE.to_owned()), admin: true, server: "athens-1".to_owned() }
}

pub(crate) fn conflict() -> Conflict {
    let edit = |author: &str| ConflictingValue {
        value: HOSTILE.to_owned(),
        author: author.to_owned(),
        time: "2026-11-22T08:12:00Z".to_owned(),
    };
    Conflict { field: "image".to_owned(), values: vec![edit("bob"), edit("carol")] }
}

pub(crate) fn space(id: &str, desired: Desired, observed: Observed) -> SpaceRow {
    SpaceRow {
        id: id.to_owned(),
        name: HOSTILE.to_owned(),
        owner: "alice".to_owned(),
        template: "rust-dev".to_owned(),
        template_id: "t1".to_owned(),
        desired,
        observed,
        home: "athens-1".to_owned(),
        home_reachable: true,
        may_delete: true,
        ..SpaceRow::default()
    }
}

pub(crate) fn spaces(rows: Vec<SpaceRow>) -> String {
    let page = SpacesPage { chrome: chrome(), spaces: rows, any_template: true };
    page.render().expect("the page renders")
}

/// The part of the spaces page that shows one space.
pub(crate) fn row(space: SpaceRow) -> String {
    let page = spaces(vec![space]);
    let (_, list) = page.split_once("<ul id=\"spaces\"").expect("the list begins");
    let (row, _) = list.split_once("</ul>\n<p id=\"no-spaces\"").expect("the list ends");
    row.to_owned()
}

pub(crate) fn template_page(saved: Option<SavedTemplate>, may_edit: bool) -> String {
    let source = format!("name: rust-dev\ndescription: {HOSTILE}</textarea>\n");
    TemplatePage { chrome: chrome(), saved, source, may_edit }.render().expect("the page renders")
}

pub(crate) fn saved(running: usize) -> SavedTemplate {
    SavedTemplate {
        id: "t1".to_owned(),
        name: HOSTILE.to_owned(),
        revision: "b1946ac92492".to_owned(),
        running,
        outdated: running,
        to_update: vec![OutdatedSpace {
            id: HOSTILE.to_owned(),
            name: HOSTILE.to_owned(),
            owner: HOSTILE.to_owned(),
        }],
        retired: true,
        invalid: Some(Invalid { problems: vec![HOSTILE.to_owned()], used: "0123".to_owned() }),
        conflicts: vec![conflict()],
    }
}

pub(crate) fn parameter(kind: &str, default: Option<&str>, required: bool) -> TemplateParameter {
    TemplateParameter {
        name: format!("{kind}{HOSTILE}"),
        kind: kind.to_owned(),
        description: HOSTILE.to_owned(),
        default: default.map(str::to_owned),
        choices: if kind == "choice" { vec![HOSTILE.to_owned()] } else { Vec::new() },
        pattern: (kind == "text").then(|| HOSTILE.to_owned()),
        least: Some(1.0),
        most: None,
        required,
    }
}

/// A field of each kind, with a value and without.
pub(crate) fn parameters() -> Vec<ParameterField> {
    let kinds = ["text", "number", "bool", "choice", "secret"];
    let field = |kind| {
        [None, Some(HOSTILE)]
            .map(|value| ParameterField::new(parameter(kind, value, value.is_none()), value))
    };
    let gone = ParameterField::gone(HOSTILE.to_owned(), HOSTILE.to_owned());
    kinds.into_iter().flat_map(field).chain([gone]).collect()
}

pub(crate) fn pair() -> (String, String) {
    (HOSTILE.to_owned(), HOSTILE.to_owned())
}

pub(crate) fn servers() -> Vec<ServerChoice> {
    let [id, name, zone] = [HOSTILE; 3].map(str::to_owned);
    vec![ServerChoice { id, name, zone }]
}

pub(crate) fn volume(state: &str, may: Option<MayDo>) -> VolumeRow {
    VolumeRow {
        id: HOSTILE.to_owned(),
        name: HOSTILE.to_owned(),
        space: HOSTILE.to_owned(),
        space_id: HOSTILE.to_owned(),
        owner: HOSTILE.to_owned(),
        path: HOSTILE.to_owned(),
        platform: HOSTILE.to_owned(),
        state: state.to_owned(),
        engine_id: HOSTILE.to_owned(),
        server: HOSTILE.to_owned(),
        size: Some(3 << 29),
        keep: true,
        cause: Some(HOSTILE.to_owned()),
        may,
    }
}

pub(crate) fn volumes() -> Vec<VolumeRow> {
    let all = MayDo { resize: true, adopt: true, detach: true, delete: true, attach: vec![pair()] };
    vec![
        volume("present", Some(all.clone())),
        volume("aside", Some(all)),
        volume("missing", None),
        VolumeRow { space: String::new(), ..volume("present", Some(MayDo::default())) },
    ]
}

pub(crate) fn new_space(chosen: bool) -> String {
    let [id, name, description, platform, image] = [HOSTILE; 5].map(str::to_owned);
    let choice = TemplateChoice { id, name, description, platform, image };
    let [id, name, description, platform] = [HOSTILE; 4].map(str::to_owned);
    let chosen = chosen.then(|| ChosenTemplate {
        id,
        name,
        description,
        platform,
        parameters: parameters(),
        servers: servers(),
    });
    let page = NewSpacePage { chrome: chrome(), templates: vec![choice.clone(), choice], chosen };
    page.render().expect("the page renders")
}

fn ports() -> Ports {
    let port = |number, access, url: Option<&str>| Port {
        number,
        name: url.map(|_| HOSTILE.to_owned()),
        protocol: HOSTILE.to_owned(),
        access,
        url: url.map(str::to_owned),
    };
    Ports {
        ports: vec![
            port(80, Access::Owner, Some(HOSTILE)),
            port(81, Access::Public, Some(HOSTILE)),
            port(82, Access::SignedIn, None),
        ],
        any_port: true,
        any_url: Some(HOSTILE.to_owned()),
    }
}

/// The page of a space, as its owner sees it.
pub(crate) fn details() -> SpacePage {
    let facts = SpaceFacts {
        created: "2026-11-22T08:12:00Z".to_owned(),
        generation: "1.2".to_owned(),
        revision: HOSTILE.to_owned(),
        driver: HOSTILE.to_owned(),
        alt_names: [(HOSTILE.to_owned(), 80)].into(),
        depends_on: vec![pair()],
    };
    let [id, name] = [HOSTILE; 2].map(str::to_owned);
    let settings = Settings {
        in_conflict: vec!["note".to_owned()],
        dependencies: vec![Dependency { id, name, chosen: true }],
    };
    SpacePage {
        chrome: chrome(),
        space: SpaceRow {
            health: Some(HOSTILE.to_owned()),
            cause: Some(HOSTILE.to_owned()),
            description: HOSTILE.to_owned(),
            note: format!("{HOSTILE}</textarea>"),
            shares: vec![HOSTILE.to_owned()],
            moving_to: Some(HOSTILE.to_owned()),
            conflicts: vec![conflict()],
            ..space(HOSTILE, Desired::Running, Observed::Running)
        },
        facts,
        settings: Some(settings),
        parameters: parameters(),
        sharing: Some(Sharing { users: vec![pair()] }),
        placing: Some(Placing { servers: servers() }),
        by_hand: true,
        volumes: volumes(),
        charts: vec![Chart {
            title: "Memory",
            now: HOSTILE.to_owned(),
            most: HOSTILE.to_owned(),
            points: HOSTILE.to_owned(),
        }],
        usage_problem: None,
        generation: Some(HOSTILE.to_owned()),
        log: HOSTILE.to_owned(),
        log_problem: None,
        earlier: vec![Start { generation: HOSTILE.to_owned(), provision: true, container: true }],
        ports: ports(),
    }
}

/// The same, as somebody sees it whom it is shared with.
pub(crate) fn shared() -> SpacePage {
    let page = details();
    SpacePage {
        space: SpaceRow { may_delete: false, ..page.space },
        settings: None,
        sharing: None,
        placing: None,
        by_hand: false,
        volumes: vec![volume("present", None)],
        ..page
    }
}

pub(crate) fn variables() -> String {
    let [id, name, description] = [HOSTILE; 3].map(str::to_owned);
    let plain = VariableRow {
        id,
        name,
        description,
        zones: vec![HOSTILE.to_owned()],
        value: Some(format!("{HOSTILE}</textarea>")),
        conflicts: vec![conflict()],
    };
    let secret = VariableRow { value: None, ..plain.clone() };
    let zones = vec![HOSTILE.to_owned()];
    let page = VariablesPage { chrome: chrome(), variables: vec![plain, secret], zones };
    page.render().expect("the page renders")
}

pub(crate) fn every_page() -> Vec<String> {
    let failed = SpaceRow {
        cause: Some(HOSTILE.to_owned()),
        conflicts: vec![conflict()],
        ..space(HOSTILE, Desired::Running, Observed::Failed)
    };
    let sign_in = SignInPage {
        chrome: Chrome { user: None, admin: false, server: HOSTILE.to_owned() },
        next: LocalPath::parse("/templates?q=\"><script>").expect("a local path"),
    };
    let templates = TemplatesPage {
        chrome: chrome(),
        may_edit: true,
        templates: vec![TemplateRow {
            id: HOSTILE.to_owned(),
            name: HOSTILE.to_owned(),
            description: HOSTILE.to_owned(),
            platform: "docker".to_owned(),
            image: HOSTILE.to_owned(),
            spaces: 2,
            conflicts: 1,
            retired: true,
            invalid: true,
            groups: vec![HOSTILE.to_owned()],
        }],
    };
    let history = HistoryPage {
        chrome: chrome(),
        id: HOSTILE.to_owned(),
        name: HOSTILE.to_owned(),
        revisions: vec![RevisionRow {
            id: HOSTILE.to_owned(),
            short: "0123456789ab".to_owned(),
            author: HOSTILE.to_owned(),
            time: "2026-11-22T08:12:00Z".to_owned(),
            fields: vec![FieldRow {
                field: HOSTILE.to_owned(),
                lines: vec![format!("-{HOSTILE}"), format!("+{HOSTILE}")],
            }],
            used: true,
        }],
        next: HOSTILE.to_owned(),
        may_edit: true,
    };
    let servers = ServersPage {
        chrome: chrome(),
        servers: vec![ServerRow {
            id: "s1".to_owned(),
            name: HOSTILE.to_owned(),
            zone: HOSTILE.to_owned(),
            quic: "10.1.0.1:7440".to_owned(),
            state: ServerState::Live,
            clock: "clock 5 min ahead".to_owned(),
            this: true,
            platforms: vec!["docker".to_owned(), HOSTILE.to_owned()],
        }],
    };
    let [server, platform, engine_id] = [HOSTILE; 3].map(str::to_owned);
    let orphan = Orphan { server, platform, engine_id };
    let [server_id, server, platform] = [HOSTILE; 3].map(str::to_owned);
    let volumes = VolumesPage {
        chrome: chrome(),
        volumes: volumes(),
        orphans: vec![orphan],
        places: vec![VolumePlace { server_id, server, platform }],
    };
    let groups = GroupsPage {
        chrome: chrome(),
        groups: vec![GroupRow {
            name: HOSTILE.to_owned(),
            description: HOSTILE.to_owned(),
            members: vec![HOSTILE.to_owned()],
            templates: vec![pair()],
        }],
    };
    let terminal = TerminalPage {
        id: HOSTILE.to_owned(),
        name: HOSTILE.to_owned(),
        server: "athens-1".to_owned(),
    };
    vec![
        spaces(vec![failed]),
        details().render().expect("the page renders"),
        shared().render().expect("the page renders"),
        SpacePage {
            usage_problem: Some(HOSTILE.to_owned()),
            log_problem: Some(HOSTILE.to_owned()),
            ..details()
        }
        .render()
        .expect("the page renders"),
        new_space(true),
        new_space(false),
        volumes.render().expect("the page renders"),
        variables(),
        groups.render().expect("the page renders"),
        sign_in.render().expect("the page renders"),
        templates.render().expect("the page renders"),
        history.render().expect("the page renders"),
        template_page(Some(saved(3)), true),
        template_page(None, true),
        servers.render().expect("the page renders"),
        terminal.render().expect("the page renders"),
        ErrorPage::forbidden(chrome(), HOSTILE.to_owned()).render().expect("the page renders"),
    ]
}
