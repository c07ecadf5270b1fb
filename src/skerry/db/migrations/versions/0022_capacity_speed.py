"""Reservations admitted together: one transaction takes many, and each of them is admitted or refused on its own."""

from alembic import op

revision = "0022"
down_revision = "0021"


def upgrade() -> None:
    # What limits of holds count: what an organization has on hold, and what it held and let go.
    op.execute("CREATE INDEX ix_reservations_held ON reservations (organization, expires_at) WHERE status = 'held'")
    op.execute("""
        CREATE INDEX ix_reservations_let_go ON reservations (organization, created_at)
        WHERE confirmed_at IS NULL AND status IN ('expired', 'cancelled')
    """)
    op.execute("DROP INDEX ix_reservations_organization")
    op.execute("DROP FUNCTION capacity_admit(timestamptz, bigint[], jsonb, jsonb, jsonb, jsonb, jsonb)")
    op.execute("DROP FUNCTION capacity_limits(reservations, timestamptz, jsonb)")
    op.execute(_LET_GO)
    op.execute(_OVER_LIMIT)
    op.execute(_STALE)
    op.execute(_LACKING)
    op.execute(_ADMIT)


# What an organization held within a day and did not buy: lapsed, whether or not that is written down, or given back.
_LET_GO = """
    CREATE FUNCTION capacity_let_go(p_organization text, p_now timestamptz)
    RETURNS SETOF reservations LANGUAGE sql STABLE AS $$
        SELECT * FROM reservations
         WHERE organization = p_organization AND confirmed_at IS NULL AND status IN ('expired', 'cancelled')
           AND created_at > p_now - interval '1 day'
        UNION ALL
        SELECT * FROM reservations
         WHERE organization = p_organization AND status = 'held' AND expires_at <= p_now
           AND created_at > p_now - interval '1 day'
    $$
"""

# Those of some new holds that limits refuse, as {id: name of the limit}. They are looked at in their order, and each
# that passes counts for those after it. The locks of their organizations are held.
_OVER_LIMIT = """
    CREATE FUNCTION capacity_over_limit(p_new reservations[], p_now timestamptz, p_limits jsonb)
    RETURNS jsonb LANGUAGE plpgsql AS $$
    DECLARE
        most_holds CONSTANT bigint := p_limits ->> 'holds';
        most_seconds CONSTANT numeric := p_limits ->> 'node_seconds';
        most_repeats CONSTANT bigint := p_limits ->> 'repeats';
        refused jsonb := '{}';
        own record;
        counted text;
        held bigint;
        seconds numeric;
        let_go bigint;
        repeats bigint;
    BEGIN
        FOR own IN
            SELECT n.id, n.organization, n.sku, n.start_at, n.end_at, n.node_seconds
              FROM unnest(p_new) WITH ORDINALITY AS n
             ORDER BY n.organization, n.ordinality
        LOOP
            IF counted IS DISTINCT FROM own.organization THEN
                counted := own.organization;
                SELECT count(*), coalesce(sum(node_seconds), 0) INTO held, seconds
                  FROM reservations
                 WHERE organization = counted AND status = 'held' AND expires_at > p_now;
                SELECT count(*) INTO let_go FROM capacity_let_go(counted, p_now);
            END IF;
            repeats := 0;
            IF let_go >= most_repeats THEN
                SELECT count(*) INTO repeats FROM capacity_let_go(counted, p_now) AS gone
                 WHERE gone.sku = own.sku AND gone.start_at < own.end_at AND gone.end_at > own.start_at;
            END IF;
            IF held >= most_holds THEN
                refused := refused || jsonb_build_object(own.id, 'holds');
            ELSIF seconds + own.node_seconds > most_seconds THEN
                refused := refused || jsonb_build_object(own.id, 'node_seconds');
            ELSIF repeats >= most_repeats THEN
                refused := refused || jsonb_build_object(own.id, 'repeats');
            ELSE
                held := held + 1;
                seconds := seconds + own.node_seconds;
            END IF;
        END LOOP;
        RETURN refused;
    END $$
"""

# Those whose leaves have another supply than the one that is given, as {id: 'supply'}. Raising a supply's version takes
# the leaf's lock.
_STALE = """
    CREATE FUNCTION capacity_on_old_supply(p_legs jsonb, p_supply jsonb)
    RETURNS jsonb LANGUAGE plpgsql AS $$
    DECLARE
        refused jsonb := '{}';
    BEGIN
        IF EXISTS (
            SELECT 1 FROM jsonb_array_elements(p_supply) AS s
              JOIN leaf_versions AS v ON v.leaf = s ->> 'leaf' AND v.sku = s ->> 'sku'
             WHERE v.supply <> (s ->> 'version')::bigint
        ) THEN
            SELECT jsonb_object_agg(l ->> 'reservation', 'supply') INTO refused
              FROM jsonb_array_elements(p_legs) AS l
              JOIN jsonb_array_elements(p_supply) AS s ON s ->> 'leaf' = l ->> 'leaf' AND s ->> 'sku' = l ->> 'sku'
              JOIN leaf_versions AS v ON v.leaf = s ->> 'leaf' AND v.sku = s ->> 'sku'
             WHERE v.supply <> (s ->> 'version')::bigint;
        END IF;
        RETURN coalesce(refused, '{}');
    END $$
"""

# Those of some reservations, all of which are counted already, that stand on nodes that are not there.
_LACKING = """
    CREATE FUNCTION capacity_lacking(p_reservations text[], p_now timestamptz, p_supply jsonb)
    RETURNS text[] LANGUAGE plpgsql AS $$
    BEGIN
        RETURN array(
            WITH supply AS MATERIALIZED (
                SELECT s ->> 'leaf' AS leaf, s ->> 'sku' AS sku,
                       array(SELECT to_timestamp(x::bigint)
                               FROM jsonb_array_elements_text(s -> 'starts') AS x) AS starts,
                       array(SELECT x::integer FROM jsonb_array_elements_text(s -> 'nodes') AS x) AS nodes
                  FROM jsonb_array_elements(p_supply) AS s
            )
            SELECT DISTINCT l.reservation
              FROM reservation_legs AS l LEFT JOIN supply AS s ON s.leaf = l.leaf AND s.sku = l.sku
             WHERE l.reservation = ANY (p_reservations) AND l.live AND l.end_at > p_now
               AND capacity_least_free(
                    l.leaf, l.sku, greatest(l.start_at, p_now), l.end_at, p_now, s.starts, s.nodes) < 0
        );
    END $$
"""

# Admit many: lock, check, insert, with their events. Returns those that are refused, as {id: why}: `supply` (it has
# changed since it was read), `sold` (of this offer there is a reservation), `taken` (a leaf has too few nodes), or the
# name of a limit. One that is refused leaves nothing behind and takes nothing from the others.
#
# `p_locks`: of organizations in order, then of leaves in order, so that nobody waits in a circle. `p_limits` NULL: none
# apply. `p_supply`: as `capacity_require` takes it.
_ADMIT = """
    CREATE FUNCTION capacity_admit(
        p_now timestamptz, p_locks bigint[], p_reservations jsonb, p_legs jsonb, p_supply jsonb, p_limits jsonb,
        p_events jsonb
    ) RETURNS jsonb LANGUAGE plpgsql AS $$
    DECLARE
        wanted reservations[];
        refused jsonb := '{}';
        made text[];
        taken text[];
        own text;
    BEGIN
        PERFORM pg_advisory_xact_lock(number) FROM unnest(p_locks) AS number;
        refused := capacity_on_old_supply(p_legs, p_supply);
        wanted := array(SELECT w FROM jsonb_populate_recordset(NULL::reservations, p_reservations) AS w
                         WHERE NOT refused ? w.id);
        IF p_limits IS NOT NULL THEN
            refused := refused || capacity_over_limit(wanted, p_now, p_limits);
        END IF;
        WITH inserted AS (
            INSERT INTO reservations SELECT w.* FROM unnest(wanted) AS w WHERE NOT refused ? w.id
            ON CONFLICT ON CONSTRAINT uq_reservations_offer_id DO NOTHING
            RETURNING id
        )
        SELECT coalesce(array_agg(id), '{}') INTO made FROM inserted;
        SELECT refused || coalesce(jsonb_object_agg(w.id, 'sold'), '{}') INTO refused
          FROM unnest(wanted) AS w WHERE NOT refused ? w.id AND w.id <> ALL (made);
        INSERT INTO reservation_legs
        SELECT l.* FROM jsonb_populate_recordset(NULL::reservation_legs, p_legs) AS l WHERE l.reservation = ANY (made);

        taken := capacity_lacking(made, p_now, p_supply);
        IF taken <> '{}' THEN
            -- Where they cannot all be had, they come one after the other, in their order.
            UPDATE reservation_legs SET live = false WHERE reservation = ANY (taken);
            FOR own IN SELECT w.id FROM unnest(wanted) WITH ORDINALITY AS w WHERE w.id = ANY (taken) ORDER BY ordinality
            LOOP
                UPDATE reservation_legs SET live = true WHERE reservation = own;
                IF capacity_lacking(array[own], p_now, p_supply) <> '{}' THEN
                    DELETE FROM reservation_legs WHERE reservation = own;
                    DELETE FROM reservations WHERE id = own;
                    made := array_remove(made, own);
                    refused := refused || jsonb_build_object(own, 'taken');
                END IF;
            END LOOP;
        END IF;

        PERFORM capacity_touch(array_agg(leaf), array_agg(sku))
           FROM (SELECT DISTINCT leaf, sku FROM reservation_legs WHERE reservation = ANY (made)) AS touched
         HAVING count(*) > 0;
        INSERT INTO events (id, at, project, resource_kind, resource, type, data)
        SELECT e.id, e.at, e.project, e.resource_kind, e.resource, e.type, e.data
          FROM jsonb_populate_recordset(NULL::events, p_events) AS e WHERE e.resource = ANY (made);
        PERFORM pg_notify('skerry_events', project)
           FROM (SELECT DISTINCT project FROM reservations WHERE id = ANY (made)) AS told;
        RETURN refused;
    END $$
"""
