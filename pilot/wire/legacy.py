"""Texts of the old system that clients may match, kept to the letter.

Texts about the form of a request and about descriptions stand only here, and their prefixes too. What the core refuses in the
present state of the pilot (`Job a already exist`, `Job 'a' doesn't exist`, `Not enough resources for job a`) it says in these
words itself, where the names are known: those texts are plain sentences without a prefix, and hold in Python too. Everything
else says what is wrong in our own words, with the place.
"""

from __future__ import annotations

from ..model.errors import (
    InvalidJobError,
    InvalidRequestError,
    NotEnoughResourcesError,
    PilotfishError,
    SplitToZeroError,
)

_FORM = "Invalid request: "  # the form of the request is wrong
_DESCRIPTION = "Wrong submit request: "  # a description breaks a rule (the second stage of a submit)


class FormError(InvalidRequestError):
    """An error of the first stage of a submit, its form: the text stands alone on the wire, the place goes beside it."""

    prefix = _FORM


class MemberError(InvalidRequestError):
    """A member of a request that the old system did not have or did not check; the message names the place."""


def wire_message(error: PilotfishError) -> str:
    """The `message` of the reply for this error."""
    if isinstance(error, FormError):
        return error.prefix + error.what
    if isinstance(error, MemberError):
        return _FORM + str(error)
    if isinstance(error, InvalidJobError):
        return _DESCRIPTION + str(error)
    if isinstance(error, SplitToZeroError):
        return f"{SPLIT_TO_ZERO}: {error.remedy}"
    if isinstance(error, NotEnoughResourcesError):
        return f"{error.what}: {error.remedy}"  # the old text, and what is missing
    return error.what


INVALID = "Invalid request"
UNKNOWN_NAME = "Unknown request name: {}"
NO_JOBS = "Wrong submit request - missing jobs data"
NO_JOB_OBJECT = "Wrong submit request - wrong job data"
NO_NAME = "Missing name in job description"
NO_EXECUTION = "Missing execution element in job description"
ITERATION_FORM = "Wrong format of iteration directive: not a dictionary"
ITERATION_ORDER = "Wrong format of iteration directive: start index larger then stop one"
NO_STATUS_NAMES = "Wrong job status request - missing job names"
NO_INFO_NAMES = "Wrong job info request - missing job names"
NO_CANCEL_NAMES = "Wrong cancel job request - missing job names"
NO_REMOVE_NAMES = "Wrong remove job request - missing job names"
NO_COMMAND = "Wrong control request - missing command"
UNKNOWN_COMMAND = 'Wrong control request - unknown command "{}"'
NO_REGISTER_ENTITY = "Wrong register request - missing/unknown entity"
NO_REGISTER_PARAMETERS = "Wrong register request - missing register parameters"
NO_REGISTER_KEYS = "Wrong register request - missing key register parameters"
NO_NOTIFY_ENTITY = "Wrong notify request - missing/unknown entity"
NO_NOTIFY_PARAMETERS = "Wrong notify request - missing register parameters"
NO_NOTIFY_KEYS = "Wrong notify request - missing key notify parameters"
SPLIT_TO_ZERO = "Wrong submit request - split-into resolved to zero"
BAD_NAME = "Job identifier '({})' contains invalid characters or unknown variables"

# Second stage: the prefix stands before them, and our own place and value are added.
EXECUTION_TYPE = "Job execution not defined or wrong type"
NO_PROGRAM = "Job execution (exec or script) not defined"
ARGS_TYPE = "Execution arguments must be an array"
ENV_TYPE = "Execution environment must be an dictionary"
SCRIPT_AND_EXEC = "Job script and exec or args or env defined"
MODEL_OPTS_TYPE = "Execution model options must be an dictionary"
STOP_AND_VALUES = "Stop and values iteration are excluding"
DEPENDENCIES_TYPE = "Job dependencies wrong type"
AFTER_TYPE = "Dependency task's list must be an array of job names"
ATTRIBUTES_TYPE = "Job attributes must be dictionary"
COLON_IN_NAME = "Invalid job name {}"
NO_ITERATIONS = "Job iteration stop greater or equal than start"
RESOURCES_TYPE = "Job resources not defined or wrong type"
EXACT_AND_RANGE = "Exact number of resources defined with min/max/scheduler"
NO_RESOURCES = "No resources defined"
CRS_TYPE = "Wrong definition of Consumable Resources (must be a dictionary)"
SIZE_TYPE = "Wrong definition of number of {}"
CRS_UNKNOWN = "Unknown consumable resource {}"
CRS_TWICE = "Consumable resource {} already defined"
CRS_NO_NUMBER = "Consumable resource {} count not a number"
CRS_ZERO = "Number of consumable resource {} must be greater than 0"
