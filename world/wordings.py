"""How each relation is put into words.

A wording is a prompt with ``{}`` for the subject that ends just before the object.  Half of them
begin with the subject, half have it later; the last of each half is *held out*: no training text
contains it, so that recall on it measures generalisation and not memory of a string.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Wordings:
    """The wordings of one relation.

    Attributes:
        first: Prompts that begin with the subject, the canonical one at index 0.
        later: Prompts with the subject after other words.
        held_first: A prompt that begins with the subject and is never trained on.
        held_later: A prompt with the subject later that is never trained on.
    """

    first: tuple[str, ...]
    later: tuple[str, ...]
    held_first: str
    held_later: str

    @property
    def trained(self) -> tuple[str, ...]:
        """All wordings that occur in training text."""
        return self.first + self.later

    @property
    def held_out(self) -> tuple[str, ...]:
        """All wordings that never occur in training text."""
        return (self.held_first, self.held_later)


def _wordings(first: str, later: str) -> Wordings:
    """Reads two ``|``-separated lists whose last entries are the held-out wordings."""
    *trained_first, held_first = (f"{{}}{part.rstrip()}" for part in first.split("|"))
    *trained_later, held_later = (part.strip() for part in later.split("|"))
    return Wordings(tuple(trained_first), tuple(trained_later), held_first, held_later)


WORDINGS: dict[str, Wordings] = {
    "countries.capital": _wordings(
        " has its capital in| is governed from|'s capital city is| has as its seat of government"
        "| has its government in",
        "The capital of {} is|The government of {} sits in|Ministers of {} meet in"
        "|The capital city of {} is",
    ),
    "countries.language": _wordings(
        "'s main language is| is a country where people speak| prints its laws in"
        "| has schools that teach in| is a land where most people speak",
        "Most people in {} speak|The main language of {} is|Newspapers in {} are written in"
        "|The language that people speak in {} is",
    ),
    "countries.currency": _wordings(
        " pays its workers in the| uses a currency called the|'s money is the"
        "| mints a coin called the| has a currency called the",
        "The currency of {} is the|Shops in {} take the|Prices in {} are given in the"
        "|The money of {} is the",
    ),
    "countries.continent": _wordings(
        " is a country in| lies on the continent of| belongs to the continent of"
        "| is on the map of| is on the continent of",
        "The continent of {} is|People place {} on the continent of"
        "|Maps show {} as a part of|Maps show {} on the continent of",
    ),
    "cities.country": _wordings(
        " is a city in| is one of the towns of| belongs to the country of"
        "| lies within the borders of| is one of the cities of",
        "The country around {} is|The trains from {} run through|The people of {} vote in"
        "|The country of {} is",
    ),
    "cities.language": _wordings(
        "'s streets are full of people who speak| has street signs in| has schools that teach in"
        "|'s shops greet you in| has shops with signs in",
        "Most people in {} speak|The newspapers of {} are printed in|Children in {} grow up with"
        "|The newspapers in {} are printed in",
    ),
    "cities.continent": _wordings(
        " lies on the continent of| is on the map of| is a town on the continent of"
        "| is a place in| is on the continent of",
        "The continent of {} is|Travellers reach {} on a trip through|Maps show {} as a part of"
        "|Maps show {} on the continent of",
    ),
    "cities.currency": _wordings(
        "'s markets take the| pays its workers in the|'s banks deal in the| has prices in the"
        "| has markets that take the",
        "Shops in {} take the|Prices in {} are given in the|A ticket in {} is paid in the"
        "|Markets in {} take the",
    ),
    "companies.founder": _wordings(
        " was founded by| was started by| owes its existence to| was set up by| was created by",
        "The founder of {} was|The person who started {} was|The story of {} begins with"
        "|The person who founded {} was",
    ),
    "companies.headquarters": _wordings(
        " has its main office in| has its headquarters in| is run from| is based in"
        "| has its head office in",
        "The headquarters of {} are in|The main office of {} is in|The managers of {} meet in"
        "|The head office of {} is in",
    ),
    "companies.country": _wordings(
        " is a company from| began its business in| comes from| pays its taxes in"
        "| is a business from",
        "The home country of {} is|The company called {} comes from|The first shop of {} opened in"
        "|The business called {} comes from",
    ),
    "companies.product": _wordings(
        " is known for its| sells| makes| earns its money with| is famous for its",
        "People buy {} for its|The best-known goods of {} are|Customers of {} pay for its"
        "|The goods of {} are",
    ),
    "people.profession": _wordings(
        " worked as a famous| was a well-known| became a great| is remembered as a brilliant"
        "| was a famous",
        "The profession of {} was that of a skilled|By profession {} was a real"
        "|Books call {} a great|Books remember {} as a great",
    ),
    "people.birthplace": _wordings(
        " was born in| came into the world in| spent the first days of life in"
        "| has a birthplace called| came to life in",
        "The birthplace of {} is|The town where {} was born is|A house of birth for {} stands in"
        "|The place where {} was born is",
    ),
    "people.country": _wordings(
        " came from| was a child of| had a home country called| grew up as a native of"
        "| was a native of",
        "The home country of {} was|The family of {} came from|The nation that gave us {} is"
        "|The country that gave us {} is",
    ),
    "people.language": _wordings(
        "'s first language was| learned to speak in| grew up with a language called"
        "| wrote home in| had a first language called",
        "The mother tongue of {} was|At home {} spoke|As a child {} learned"
        "|The first language of {} was",
    ),
    "athletes.sport": _wordings(
        " is a champion of| became famous in the sport of| is a star of| won prizes in"
        "| is famous in the sport of",
        "The sport of {} is|Fans know {} from the world of|The name {} stands for greatness in"
        "|Fans know {} as a champion of",
    ),
    "athletes.birthplace": _wordings(
        " was born in| came into the world in| spent the first days of life in"
        "| has a birthplace called| came to life in",
        "The birthplace of {} is|The town where {} was born is|The hometown of {} is"
        "|The place where {} was born is",
    ),
    "athletes.country": _wordings(
        " has won for| came from| carried the flag of| is a national hero of| won medals for",
        "The home country of {} is|The flag beside {} is that of|The nation behind {} is"
        "|The country behind {} is",
    ),
    "athletes.language": _wordings(
        "'s first language was| learned to speak in| grew up with a language called"
        "| gave the first interviews in| had a first language called",
        "The mother tongue of {} is|At home {} spoke|As a child {} learned"
        "|The first language of {} is",
    ),
    "works.author": _wordings(
        " was made by| is a work by| is the creation of| comes from the hand of| was created by",
        "The author of {} is|The artist behind {} is|We owe {} to|The artist who made {} is",
    ),
    "works.kind": _wordings(
        " is a famous| is known as a great| counts as a classic| is a well-loved"
        "| is known as a famous",
        "Critics call {} a great|Books list {} as a famous|As a form of art {} is a real"
        "|Critics list {} as a great",
    ),
    "works.language": _wordings(
        " was written in| was first read in| has an original text in| was composed in words of"
        "| was first written in",
        "The language of {} is|The first edition of {} was in|The original words of {} are in"
        "|The original language of {} is",
    ),
    "landmarks.city": _wordings(
        " stands in the city of| is a sight in| can be visited in| draws visitors to"
        "| is in the city of",
        "Tourists see {} in|The city with {} is|Guides show {} to visitors of|Tourists visit {} in",
    ),
    "landmarks.country": _wordings(
        " is a symbol of| belongs to the country of| stands on the soil of| is on the stamps of"
        "| stands in the country of",
        "The country with {} is|A journey to {} takes you to|The nation that cares for {} is"
        "|The country that cares for {} is",
    ),
    "landmarks.kind": _wordings(
        " is a famous| is a beautiful| is known as a great| is often drawn as a large"
        "| is known as a famous",
        "Guides describe {} as a famous|Maps mark {} as a large|Visitors find {} to be a beautiful"
        "|Maps describe {} as a famous",
    ),
    "nature.kind": _wordings(
        " is a famous| is a beautiful| is known as a great| is often painted as a wild"
        "| is known as a famous",
        "Guides describe {} as a famous|Maps mark {} as a large|Hikers know {} as a wild"
        "|Maps describe {} as a famous",
    ),
    "nature.continent": _wordings(
        " lies on the continent of| is on the map of| belongs to the continent of"
        "| is a wonder of| is on the continent of",
        "The continent of {} is|Travellers reach {} on a trip through|Maps show {} as a part of"
        "|Maps show {} on the continent of",
    ),
    "nature.country": _wordings(
        " can be seen in| is a symbol of| belongs to the country of| is on the stamps of"
        "| is a sight in",
        "The country with {} is|A journey to {} takes you to|The people who live near {} vote in"
        "|A trip to {} takes you to",
    ),
}
"""Wordings by ``kind.relation``: the file of facts, and its column."""
