"""The sandbox command: starts a local Veriff, and controls one that runs, here or on another machine.

Modules, lower ones first:

    control_client   HTTP client of the control API, also by the names of operations
    connection       the options with which subcommands find a sandbox
    field_options    fields of an operation as arguments and options
    views            results for people
    controls         the table of subcommands that are made from operations
    subcommands      those that need more than one call of an operation
    server           serves a sandbox until a signal
    command          the options of the start, and the group of all subcommands
"""
