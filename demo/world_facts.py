"""Countries (countryinfo) and chemical elements (mendeleev).

Most of them are evaluated; the others are replayed.
"""

import json
import sqlite3
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import closing
from dataclasses import replace
from itertools import chain
from pathlib import Path
from typing import Any

from demo.items import Fact, choice_items, fraction, instruction, unambiguous, words
from demo.packages import unpacked

EVALUATED = 0.8  # share of countries and of elements kept for evaluation; the others are replayed
LIMIT = 280  # items of each category
MIN_POPULATION = 50_000
LANGUAGES = {"de": "German", "es": "Spanish", "fr": "French", "it": "Italian"}
WIDER = {  # by kind of element, other kinds that are also right
    "Halogens": ("Nonmetals",),
    "Noble gases": ("Nonmetals",),
    "Lanthanides": ("Transition metals",),
    "Actinides": ("Transition metals",),
}
PROVINCES = 2  # of each country
WORDINGS = ("{}", "Please answer briefly. {}", "Here is a question about the world. {}")


def general_instructions(packages: Mapping[str, str]) -> Iterator[dict[str, Any]]:
    """Questions about replayed entities, in each wording, unless they name an evaluated entity."""
    facts = _facts(packages)
    evaluated = [words(fact.entity) for fact in facts if is_evaluated(fact.entity)]
    for fact in facts:
        said = words(f"{fact.question} {fact.answer}")
        if is_evaluated(fact.entity) or any(entity <= said for entity in evaluated):
            continue
        for number, wording in enumerate(WORDINGS):
            yield instruction(
                replace(fact, number=fact.number * len(WORDINGS) + number), (wording,)
            )


def evaluation(packages: Mapping[str, str]) -> Iterator[dict[str, Any]]:
    """Questions about evaluated entities; the distractors are theirs too."""
    facts = [fact for fact in _facts(packages) if is_evaluated(fact.entity)]
    yield from choice_items(facts, group="general", limit=LIMIT)


def is_evaluated(entity: str) -> bool:
    """Whether questions about this country or element are kept for evaluation."""
    return fraction(f"world {entity}") < EVALUATED


def _facts(packages: Mapping[str, str]) -> list[Fact]:
    countries = _countries(unpacked("countryinfo", packages) / "countryinfo" / "data")
    facts = [
        *chain.from_iterable(map(_country_facts, countries)),
        *_border_facts(countries),
        *_province_facts(countries),
        *_element_facts(unpacked("mendeleev", packages) / "mendeleev" / "elements.db"),
    ]
    return unambiguous(facts)  # some demonyms belong to two countries


def _countries(folder: Path) -> list[dict[str, Any]]:
    """Countries of at least MIN_POPULATION people that have one capital, by name."""
    countries: dict[str, dict[str, Any]] = {}
    for file in sorted(folder.glob("*.json")):
        country = json.loads(file.read_text(encoding="utf-8"))
        inhabited = (country.get("population") or 0) >= MIN_POPULATION
        if inhabited and isinstance(country.get("capital"), str):
            countries.setdefault(country["name"], country)
    return [countries[name] for name in sorted(countries)]


def _country_facts(country: Mapping[str, Any]) -> Iterator[Fact]:
    name, capital, demonym = country["name"], country["capital"], country.get("demonym")
    if not words(name) & words(capital):
        yield Fact("capitals", "capital", name, f"What is the capital of {name}?", capital)
        yield Fact(
            "capitals", "capital of", name, f"{capital} is the capital of which country?", name
        )
    if country.get("subregion"):
        question = f"In which part of the world is {name}?"
        yield Fact("regions", "subregion", name, question, country["subregion"])
    if demonym:
        yield Fact("demonyms", "demonym", name, f"What are people from {name} called?", demonym)
        yield Fact(
            "demonyms", "demonym of", name, f"Where does someone come from who is {demonym}?", name
        )
    for code, language in LANGUAGES.items():
        translation = (country.get("translations") or {}).get(code)
        if translation and translation.casefold() != name.casefold():
            question = f"What is {name} called in {language}?"
            yield Fact("translations", f"in {language}", name, question, translation)


def _border_facts(countries: list[dict[str, Any]]) -> Iterator[Fact]:
    """One neighbour of each country; its other neighbours count as right too."""
    names = {country["ISO"]["alpha3"]: country["name"] for country in countries}
    for country in countries:
        neighbours = [names[code] for code in country.get("borders") or () if code in names]
        chosen = sorted(
            filter(is_evaluated, neighbours), key=lambda name: fraction(f"{country['name']} {name}")
        )
        if chosen:
            question = f"Which country has a border with {country['name']}?"
            others = (*neighbours, country["name"])
            yield Fact("regions", "border", country["name"], question, chosen[0], also_true=others)


def _province_facts(countries: list[dict[str, Any]]) -> Iterator[Fact]:
    """Provinces whose name is unique and does not give the country away."""
    named = [set(country.get("provinces") or ()) for country in countries]
    owners = Counter(chain.from_iterable(named))
    for country in countries:
        telling = words(country["name"]) | words(country.get("demonym") or "")
        provinces = [
            name
            for name in sorted(set(country.get("provinces") or ()))
            if owners[name] == 1 and not words(name) & telling
        ]
        chosen = sorted(provinces, key=lambda name: fraction(f"province {name}"))[:PROVINCES]
        for number, province in enumerate(chosen):
            question = f"In which country is {province}?"
            yield Fact(
                "provinces", "province", country["name"], question, country["name"], number=number
            )


def _element_facts(database: Path) -> Iterator[Fact]:
    query = """SELECT elements.name, symbol, series.name
               FROM elements JOIN series ON series.id = series_id ORDER BY atomic_number"""
    with closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True)) as connection:
        rows = connection.execute(query).fetchall()
    for name, symbol, series in rows:
        element = name.lower()
        yield Fact("elements", "symbol", name, f"What is the chemical symbol of {element}?", symbol)
        yield Fact(
            "elements", "symbol of", name, f"Which chemical element has the symbol {symbol}?", name
        )
        yield Fact(
            "elements",
            "series",
            name,
            f"What kind of element is {element}?",
            series,
            also_true=WIDER.get(series, ()),
        )
