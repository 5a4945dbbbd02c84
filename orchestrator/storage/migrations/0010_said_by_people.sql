-- What people corrected on a ticket, the last word on each field; null where nobody said anything. Triage again does not undo it.
CREATE FUNCTION said_by_people(which bigint) RETURNS TABLE (category text, priority smallint, assignment_group text)
LANGUAGE sql STABLE AS $$
    SELECT (array_agg(body ->> 'category' ORDER BY id DESC) FILTER (WHERE body ->> 'category' IS NOT NULL))[1],
        (array_agg((body ->> 'priority')::smallint ORDER BY id DESC) FILTER (WHERE body ->> 'priority' IS NOT NULL))[1],
        (array_agg(body ->> 'group' ORDER BY id DESC) FILTER (WHERE body ->> 'group' IS NOT NULL))[1]
    FROM feedback WHERE ticket = which AND kind = 'override'
$$;
