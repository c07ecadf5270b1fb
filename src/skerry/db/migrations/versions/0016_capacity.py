"""Quotes, reservations, and the functions that admit them.

Admission is one call, so that the lock, the count and the insert cost one round trip. In the functions each statement
sees what was committed before it: what was promised while the lock was waited for is counted.
"""

from alembic import op

revision = "0016"
down_revision = "0015"


def upgrade() -> None:
    _quotes()
    _reservations()
    _changes()
    op.execute(_LEAST_FREE)
    op.execute(_REQUIRE)
    op.execute(_TOUCH)
    op.execute(_LIMITS)
    op.execute(_ADMIT)


def _quotes() -> None:
    op.execute("""
        CREATE TABLE quotes (
            id text CONSTRAINT pk_quotes PRIMARY KEY,
            project text NOT NULL,
            request jsonb NOT NULL,
            no_offer jsonb,
            created_at timestamptz NOT NULL,
            expires_at timestamptz NOT NULL
        )
    """)
    op.execute("CREATE INDEX ix_quotes_created_at ON quotes (created_at)")
    op.execute("""
        CREATE TABLE offers (
            id text CONSTRAINT pk_offers PRIMARY KEY,
            quote_id text NOT NULL CONSTRAINT fk_offers_quote_id REFERENCES quotes (id) ON DELETE CASCADE,
            project text NOT NULL,
            n integer NOT NULL,
            body jsonb NOT NULL,
            expires_at timestamptz NOT NULL
        )
    """)
    op.execute("CREATE INDEX ix_offers_quote_id ON offers (quote_id, n)")


def _reservations() -> None:
    op.execute("""
        CREATE TABLE reservations (
            id text CONSTRAINT pk_reservations PRIMARY KEY,
            project text NOT NULL,
            organization text NOT NULL,
            name text NOT NULL,
            sku text NOT NULL,
            status text NOT NULL,
            status_reason jsonb NOT NULL,
            scope text NOT NULL,
            scope_required boolean NOT NULL,
            price jsonb NOT NULL,
            energy jsonb NOT NULL,
            tags jsonb NOT NULL,
            offer_id text CONSTRAINT uq_reservations_offer_id UNIQUE,
            parent text,
            start_at timestamptz NOT NULL,
            end_at timestamptz NOT NULL,
            node_seconds bigint NOT NULL,
            version integer NOT NULL DEFAULT 1,
            expires_at timestamptz,
            confirmed_at timestamptz,
            ended_at timestamptz,
            created_by text NOT NULL,
            created_at timestamptz NOT NULL,
            updated_at timestamptz NOT NULL
        )
    """)
    op.execute("CREATE INDEX ix_reservations_project ON reservations (project, id)")
    op.execute("CREATE INDEX ix_reservations_organization ON reservations (organization, created_at)")
    op.execute("CREATE INDEX ix_reservations_holds ON reservations (expires_at) WHERE status = 'held'")
    op.execute("""
        CREATE TABLE reservation_legs (
            id text CONSTRAINT pk_reservation_legs PRIMARY KEY,
            reservation text NOT NULL CONSTRAINT fk_reservation_legs_reservation REFERENCES reservations (id),
            project text NOT NULL,
            leaf text NOT NULL,
            leaf_name text NOT NULL,
            hall text NOT NULL,
            site text NOT NULL,
            sku text NOT NULL,
            nodes integer NOT NULL CONSTRAINT ck_reservation_legs_nodes CHECK (nodes > 0),
            start_at timestamptz NOT NULL,
            end_at timestamptz NOT NULL CONSTRAINT ck_reservation_legs_window CHECK (end_at > start_at),
            expires_at timestamptz,
            live boolean NOT NULL
        )
    """)
    op.execute("CREATE INDEX ix_reservation_legs_reservation ON reservation_legs (reservation)")
    op.execute("CREATE INDEX ix_reservation_legs_leaf ON reservation_legs (leaf, sku, end_at) WHERE live")
    op.execute("""
        CREATE TABLE leaf_versions (
            leaf text NOT NULL,
            sku text NOT NULL,
            version bigint NOT NULL,
            supply bigint NOT NULL,
            CONSTRAINT pk_leaf_versions PRIMARY KEY (leaf, sku)
        )
    """)


def _changes() -> None:
    op.execute("""
        CREATE TABLE change_quotes (
            id text CONSTRAINT pk_change_quotes PRIMARY KEY,
            reservation text NOT NULL CONSTRAINT fk_change_quotes_reservation REFERENCES reservations (id),
            project text NOT NULL,
            kind text NOT NULL,
            version integer NOT NULL,
            body jsonb NOT NULL,
            created_at timestamptz NOT NULL,
            expires_at timestamptz NOT NULL,
            used_at timestamptz
        )
    """)
    op.execute("CREATE INDEX ix_change_quotes_reservation ON change_quotes (reservation)")
    op.execute("CREATE INDEX ix_change_quotes_created_at ON change_quotes (created_at)")


# The fewest nodes of a leaf that are free at any moment of a window; negative where more is promised than there is.
# Supply comes as steps: `p_nodes[i]` from `p_starts[i]` on, nothing before the first. Counted against it are live legs
# (holds that have lapsed by p_now are not), and nodes with an on-demand claim outside the pool, each once.
_LEAST_FREE = """
    CREATE FUNCTION capacity_least_free(
        p_leaf text, p_sku text, p_from timestamptz, p_to timestamptz, p_now timestamptz,
        p_starts timestamptz[], p_nodes integer[]
    ) RETURNS integer LANGUAGE plpgsql STABLE AS $$
    BEGIN
        RETURN (
            WITH used AS (
                SELECT greatest(start_at, p_from) AS a, end_at AS b, nodes
                  FROM reservation_legs
                 WHERE leaf = p_leaf AND sku = p_sku AND live AND end_at > p_from AND start_at < p_to
                   AND (expires_at IS NULL OR expires_at > p_now)
                UNION ALL
                SELECT greatest(lower(taken), p_from), coalesce(upper(taken), 'infinity'), 1
                  FROM (SELECT unnest(range_agg(during)) AS taken
                          FROM capacity_claims
                         WHERE leaf = p_leaf AND sku = p_sku AND NOT void AND NOT pool
                           AND capacity_class = 'on_demand' AND during && tstzrange(p_from, p_to)
                         GROUP BY node) AS by_node
                 WHERE taken && tstzrange(p_from, p_to)
            ), steps AS (
                SELECT a, lead(a, 1, 'infinity') OVER (ORDER BY a) AS b, nodes
                  FROM unnest(p_starts, p_nodes) AS given (a, nodes)
            ), changes AS (
                SELECT p_from AS at, 0 AS delta
                UNION ALL SELECT greatest(a, p_from), nodes FROM steps WHERE b > p_from AND a < p_to
                UNION ALL SELECT b, -nodes FROM steps WHERE b > p_from AND b < p_to
                UNION ALL SELECT a, -nodes FROM used
                UNION ALL SELECT b, nodes FROM used WHERE b < p_to
            )
            SELECT min(free) FROM (SELECT sum(delta) OVER (ORDER BY at) AS free FROM changes) AS levels
        );
    END $$
"""

# Raises SK001 where any leg of a reservation, all of which are counted already, stands on nodes that are not there.
# `p_supply`: [{"leaf", "sku", "version", "starts": [Unix seconds], "nodes": [counts]}]; a leaf that is not in it has
# none. Raises SK003 where the supply has changed since that version, which is only looked at where it is given.
_REQUIRE = """
    CREATE FUNCTION capacity_require(p_reservation text, p_now timestamptz, p_supply jsonb)
    RETURNS void LANGUAGE plpgsql AS $$
    DECLARE
        leg record;
    BEGIN
        IF EXISTS (
            SELECT 1 FROM jsonb_array_elements(p_supply) AS s
              JOIN leaf_versions AS v ON v.leaf = s ->> 'leaf' AND v.sku = s ->> 'sku'
             WHERE v.supply <> (s ->> 'version')::bigint
        ) THEN
            RAISE EXCEPTION 'supply has changed' USING ERRCODE = 'SK003';
        END IF;
        FOR leg IN
            SELECT l.leaf, l.sku, l.start_at, l.end_at,
                   array(SELECT to_timestamp(x::bigint)
                           FROM jsonb_array_elements_text(s.supply -> 'starts') AS x) AS starts,
                   array(SELECT x::integer FROM jsonb_array_elements_text(s.supply -> 'nodes') AS x) AS nodes
              FROM reservation_legs AS l
              LEFT JOIN LATERAL (
                    SELECT x AS supply FROM jsonb_array_elements(p_supply) AS x
                     WHERE x ->> 'leaf' = l.leaf AND x ->> 'sku' = l.sku LIMIT 1) AS s ON true
             WHERE l.reservation = p_reservation AND l.live AND l.end_at > p_now
        LOOP
            IF capacity_least_free(
                leg.leaf, leg.sku, greatest(leg.start_at, p_now), leg.end_at, p_now, leg.starts, leg.nodes) < 0
            THEN
                RAISE EXCEPTION 'leaf % is not free', leg.leaf USING ERRCODE = 'SK001', DETAIL = leg.leaf;
            END IF;
        END LOOP;
    END $$
"""

# What is promised on some leaves, or (`p_supply` 1) what they have, has changed: their versions rise, and who listens
# hears of it.
_TOUCH = """
    CREATE FUNCTION capacity_touch(p_leaves text[], p_skus text[], p_supply integer DEFAULT 0)
    RETURNS void LANGUAGE plpgsql AS $$
    BEGIN
        INSERT INTO leaf_versions AS v (leaf, sku, version, supply)
        SELECT DISTINCT leaf, sku, 1, p_supply FROM unnest(p_leaves, p_skus) AS touched (leaf, sku) ORDER BY leaf, sku
        ON CONFLICT (leaf, sku) DO UPDATE SET version = v.version + 1, supply = v.supply + p_supply;
        PERFORM pg_notify('skerry_capacity', leaf) FROM unnest(p_leaves) AS leaf GROUP BY leaf;
    END $$
"""

# What an organization holds, and how often it has held the same: raises SK002 beyond a limit, with its name.
_LIMITS = """
    CREATE FUNCTION capacity_limits(p_new reservations, p_now timestamptz, p_limits jsonb)
    RETURNS void LANGUAGE plpgsql AS $$
    DECLARE
        found record;
    BEGIN
        PERFORM pg_advisory_xact_lock((p_limits ->> 'lock')::bigint);
        SELECT count(*) FILTER (WHERE status = 'held' AND expires_at > p_now) AS holds,
               coalesce(sum(node_seconds) FILTER (WHERE status = 'held' AND expires_at > p_now), 0) AS node_seconds,
               count(*) FILTER (WHERE confirmed_at IS NULL AND sku = p_new.sku AND created_at > p_now - interval '1 day'
                                  AND start_at < p_new.end_at AND end_at > p_new.start_at) AS repeats
          INTO found
          FROM reservations
         WHERE organization = p_new.organization AND created_at > p_now - interval '1 day';
        IF found.holds >= (p_limits ->> 'holds')::bigint THEN
            RAISE EXCEPTION 'too many holds' USING ERRCODE = 'SK002', DETAIL = 'holds';
        ELSIF found.node_seconds + p_new.node_seconds > (p_limits ->> 'node_seconds')::numeric THEN
            RAISE EXCEPTION 'too much on hold' USING ERRCODE = 'SK002', DETAIL = 'node_seconds';
        ELSIF found.repeats >= (p_limits ->> 'repeats')::bigint THEN
            RAISE EXCEPTION 'held too often' USING ERRCODE = 'SK002', DETAIL = 'repeats';
        END IF;
    END $$
"""

# Lock, check, insert, with the event. Errors: SK001, SK002 and SK003 as above, 23505 on uq_reservations_offer_id for an
# offer that was sold.
# `p_locks` are in order, so that two admissions never wait for each other in a circle. `p_limits` NULL: none apply.
_ADMIT = """
    CREATE FUNCTION capacity_admit(
        p_now timestamptz, p_locks bigint[], p_reservation jsonb, p_legs jsonb, p_supply jsonb, p_limits jsonb,
        p_event jsonb
    ) RETURNS void LANGUAGE plpgsql AS $$
    DECLARE
        admitted reservations := jsonb_populate_record(NULL::reservations, p_reservation);
        lock bigint;
    BEGIN
        IF p_limits IS NOT NULL THEN
            PERFORM capacity_limits(admitted, p_now, p_limits);
        END IF;
        FOREACH lock IN ARRAY p_locks LOOP
            PERFORM pg_advisory_xact_lock(lock);
        END LOOP;
        INSERT INTO reservations SELECT admitted.*;
        INSERT INTO reservation_legs SELECT * FROM jsonb_populate_recordset(NULL::reservation_legs, p_legs);
        PERFORM capacity_require(admitted.id, p_now, p_supply);
        PERFORM capacity_touch(array_agg(l ->> 'leaf'), array_agg(l ->> 'sku')) FROM jsonb_array_elements(p_legs) AS l;
        IF p_event IS NOT NULL THEN
            INSERT INTO events (id, at, project, resource_kind, resource, type, data)
            VALUES (p_event ->> 'id', (p_event ->> 'at')::timestamptz, p_event ->> 'project',
                    p_event ->> 'resource_kind', p_event ->> 'resource', p_event ->> 'type', p_event -> 'data');
            PERFORM pg_notify('skerry_events', p_event ->> 'project');
        END IF;
    END $$
"""
