"""Views of the database for other programs: every number in a column of its own, in plain SQL.

`sqlite3`, pandas, datasette and any other reader of SQLite can query the views, also in a store that may only be read;
nothing is stored twice. Scores and settings are packed (see `packed`), so the views decode them: the 64 bits of a
number are taken apart and multiplied by exact powers of two, which gives the same number to the last bit.

plain_runs         one row per run: its parts, its sizes, its gain
plain_evaluations  one row per candidate: stage, generation, position, fitness
plain_scores       one row per output and objective: prompt, seed, weight, score
plain_settings     one row per candidate and knob
plain_checks       the recommendations that a finished run judged, and which one it chose
plain_alarms       the alarms of finished runs
plain_gains        the gains of finished runs, one row per number of steps
plain_watched      what finished runs changed on watched prompts, one row per set and objective
plain_images       the files of kept outputs
plain_rescores     scores of kept outputs by rewards added after the run
plain_members      the runs of comparisons, with their gains
plain_analyses     one row per analysis: what it asks, how much it evaluated, what it found

trimpot itself reads the tables, whose rows have checksums; it never reads a view.
"""

from __future__ import annotations

import sqlite3

PREFIX = "plain_"


def put(connection: sqlite3.Connection) -> None:
    """Create the views, and replace those whose text is another; call this in a transaction."""
    for name in altered(connection):
        connection.execute(f"DROP VIEW IF EXISTS {name}")
        connection.execute(VIEWS[name])


def altered(connection: sqlite3.Connection) -> list[str]:
    """Return the names of the views that are missing or have another text than trimpot gives them."""
    found = dict(connection.execute("SELECT name, sql FROM sqlite_master WHERE type = 'view'").fetchall())
    return [name for name, text in VIEWS.items() if found.get(name) != text]


def _number(blob: str, index: str) -> str:
    """Return an SQL expression for one of the little-endian float64 numbers in a blob, by its index from 0.

    A subquery with LIMIT is computed once; without it, SQLite repeats its expressions wherever their names are used.
    """
    order = (14, 11, 12, 9, 10, 7, 8, 5, 6, 3, 4, 1, 2)  # the hexadecimal digits of the fraction, the highest first
    fraction = "|".join(f"({_digit(place)}<<{48 - 4 * number})" for number, place in enumerate(order))
    bits = f"SELECT hex(substr({blob},1+8*({index}),8)) AS h LIMIT 1"
    fields = (
        f"SELECT {_digit(15)}&8 AS negative,(({_digit(15)}&7)<<8)|({_digit(16)}<<4)|{_digit(13)} AS exponent,"
        f"{fraction} AS fraction FROM ({bits}) LIMIT 1"
    )
    whole = (
        "SELECT negative,1075-max(exponent,1) AS halvings,"
        f"CASE WHEN exponent THEN fraction|(1<<52) ELSE fraction END AS whole FROM ({fields}) LIMIT 1"
    )
    return (
        "(SELECT CASE WHEN negative THEN -1 ELSE 1 END"
        f"*CASE WHEN halvings>=0 THEN {_scaled('/')} ELSE {_scaled('*')} END FROM ({whole}))"
    )


def _digit(place: int) -> str:
    return f"(instr('0123456789ABCDEF',substr(h,{place},1))-1)"


def _scaled(by: str) -> str:
    """Return the expression that multiplies or divides by the power of two, in steps that are all exact."""
    steps = [(bit, bit) for bit in (32, 64, 128, 256, 512)] + [(1024, 512)] * 2  # 2**1024 itself is no float64
    factors = [f"CASE WHEN abs(halvings)&{bit} THEN {_power(power)} ELSE 1 END" for bit, power in steps]
    return by.join(["whole*1.0", "(1<<(abs(halvings)%32))", *factors])


def _power(exponent: int) -> str:
    """Return 2**exponent as a product: SQLite does not read all long decimal numbers exactly."""
    return "4294967296.0" if exponent == 32 else f"({_power(exponent // 2)}*{_power(exponent // 2)})"


_EVALUATED = "candidates c JOIN evaluations e ON e.key=c.evaluation"
_PLACE = "c.run,c.stage,c.generation,c.position"
_SCORE = _number("e.scores", "o.key*e.num_images+i.key")
#: Watched objectives weigh nothing, and where a combination's values are stored, they are the only ones that count.
_WEIGHT = (
    "CASE WHEN o.value='combined' THEN 1.0 ELSE "
    "(SELECT json_extract(w.value,'$.weight') FROM json_each(r.config,'$.objectives') w WHERE w.key=o.value) END"
)
_COUNTS = (
    "CASE WHEN EXISTS (SELECT 1 FROM json_each(n.names) WHERE value='combined') THEN o.value='combined' ELSE 1 END"
)

_TEXTS = {
    "runs": """
SELECT r.id AS run, r.created, json_extract(r.config,'$.adapter.name') AS adapter,
 json_extract(r.config,'$.optimizer.name') AS optimizer, json_extract(r.config,'$.protocol') AS protocol,
 json_extract(r.config,'$.seed') AS seed, r.outcome IS NOT NULL AS finished, r.seconds,
 (SELECT count(*) FROM candidates c WHERE c.run=r.id) AS num_evaluations,
 (SELECT ifnull(sum(e.num_images),0) FROM {evaluated} WHERE c.run=r.id) AS num_images,
 json_extract(r.outcome,'$.num_generations') AS num_generations,
 json_extract(r.outcome,'$.comparisons[0].neutral') AS neutral,
 json_extract(r.outcome,'$.comparisons[0].calibrated') AS calibrated,
 json_extract(r.outcome,'$.comparisons[0].gain.mean') AS gain,
 json_extract(r.outcome,'$.comparisons[0].gain.low') AS gain_low,
 json_extract(r.outcome,'$.comparisons[0].gain.high') AS gain_high,
 json_array_length(r.outcome,'$.alarms') AS num_alarms, json_extract(r.parent,'$.run') AS parent,
 (SELECT m.comparison FROM members m WHERE m.run=r.id LIMIT 1) AS comparison, r.stop_reason, r.error
FROM runs r""",
    "evaluations": """
SELECT {place}, c.number, c.fresh,
 CASE WHEN c.stage LIKE 'watch/%' THEN NULL ELSE (SELECT total({score}*{weight})/e.num_images
  FROM runs r, names n, json_each(n.names) o, json_each(b.seeds) i
  WHERE r.id=c.run AND n.id=e.objectives AND {counts} AND {weight}) END AS fitness,
 e.num_images, e.num_steps, e.generate_seconds, e.score_seconds, e.recorded, c.evaluation
FROM {evaluated} JOIN buckets b ON b.id=e.bucket WHERE e.num_images IS NOT NULL""",
    "scores": """
SELECT {place}, i.key AS output, json_extract(b.prompts,'$['||i.key||']') AS prompt, i.value AS seed, e.num_steps,
 o.value AS objective, {weight} AS weight, {score} AS score, c.evaluation
FROM {evaluated} JOIN runs r ON r.id=c.run JOIN buckets b ON b.id=e.bucket JOIN names n ON n.id=e.objectives,
 json_each(n.names) o, json_each(b.seeds) i
WHERE e.num_images IS NOT NULL""",
    "settings": """
SELECT {place}, k.value AS knob, {value} AS value, c.evaluation
FROM {evaluated} JOIN names n ON n.id=e.knobs, json_each(n.names) k
WHERE e.num_images IS NOT NULL""",
    "checks": """
SELECT r.id AS run, json_extract(k.value,'$.generation') AS generation, json_extract(k.value,'$.score') AS score,
 ifnull(json_extract(k.value,'$.admitted'),1) AS admitted,
 json_extract(k.value,'$.generation')=json_extract(r.outcome,'$.chosen.generation') AS chosen
FROM runs r, json_each(r.outcome,'$.checks') k""",
    "alarms": """
SELECT r.id AS run, json_extract(a.value,'$.generation') AS generation,
 json_extract(a.value,'$.objective') AS objective, json_extract(a.value,'$.neutral') AS neutral,
 json_extract(a.value,'$.now') AS now, json_extract(a.value,'$.change') AS change,
 json_extract(a.value,'$.gain') AS gain, ifnull(json_extract(a.value,'$.prompts'),'') AS prompts
FROM runs r, json_each(r.outcome,'$.alarms') a""",
    "watched": """
SELECT r.id AS run, json_extract(w.value,'$.prompts') AS prompts, json_extract(w.value,'$.objective') AS objective,
 json_extract(w.value,'$.neutral') AS neutral, json_extract(w.value,'$.calibrated') AS calibrated,
 json_extract(w.value,'$.gain.mean') AS gain, json_extract(w.value,'$.gain.low') AS gain_low,
 json_extract(w.value,'$.gain.high') AS gain_high, json_extract(w.value,'$.gain.num_prompts') AS num_prompts,
 json_extract(w.value,'$.gain.num_images') AS num_images
FROM runs r, json_each(r.outcome,'$.watched') w""",
    "gains": """
SELECT r.id AS run, json_extract(m.value,'$.num_steps') AS num_steps, m.key=0 AS at_calibrated_steps,
 json_extract(m.value,'$.baseline.label') AS baseline, json_extract(m.value,'$.neutral') AS neutral,
 json_extract(m.value,'$.calibrated') AS calibrated, json_extract(m.value,'$.gain.mean') AS gain,
 json_extract(m.value,'$.gain.low') AS gain_low, json_extract(m.value,'$.gain.high') AS gain_high,
 json_extract(m.value,'$.gain.num_prompts') AS num_prompts, json_extract(m.value,'$.gain.num_images') AS num_images
FROM runs r, json_each(r.outcome,'$.comparisons') m""",
    "images": """
SELECT {place}, f.position AS output, json_extract(b.prompts,'$['||f.position||']') AS prompt,
 json_extract(b.seeds,'$['||f.position||']') AS seed, 'images/'||f.file AS file, c.evaluation
FROM {evaluated} JOIN buckets b ON b.id=e.bucket JOIN outputs f ON f.evaluation=e.key""",
    "rescores": """
SELECT {place}, s.key AS output, x.objective, x.fingerprint, s.value AS score, x.recorded, c.evaluation
FROM candidates c JOIN rescores x ON x.evaluation=c.evaluation, json_each(x.scores) s""",
    "members": """
SELECT m.comparison, m.contender, m.seed, m.run, json_extract(r.outcome,'$.comparisons[0].gain.mean') AS gain,
 json_extract(r.outcome,'$.comparisons[0].gain.low') AS gain_low,
 json_extract(r.outcome,'$.comparisons[0].gain.high') AS gain_high
FROM members m JOIN runs r ON r.id=m.run""",
    "analyses": """
SELECT a.id AS analysis, a.created, a.kind, a.outcome IS NOT NULL AS finished, a.seconds,
 (SELECT count(*) FROM analysed d WHERE d.analysis=a.id) AS num_evaluations,
 (SELECT ifnull(sum(e.num_images),0) FROM analysed d JOIN evaluations e ON e.key=d.evaluation
  WHERE d.analysis=a.id) AS num_images,
 json_extract(a.outcome,'$.headline') AS headline, a.error
FROM analyses a""",
}

#: The statement that creates each view, by its name.
VIEWS = {
    PREFIX + name: f"CREATE VIEW {PREFIX}{name} AS"
    + text.format(
        evaluated=_EVALUATED,
        place=_PLACE,
        score=_SCORE,
        weight=_WEIGHT,
        counts=_COUNTS,
        value=_number("e.setting", "k.key"),
    )
    for name, text in _TEXTS.items()
}
