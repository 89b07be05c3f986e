"""The scripts by which `RedisInbox` searches; see `_redis_search`.

Another program may have written anything to the fields of a session. The scripts then return what can be read of it, as
an error would hide all other sessions.
"""

from __future__ import annotations

from typing import Final

__all__ = ("COUNT_SCRIPT", "RECORDS_SCRIPT", "SUMMARY_SCRIPT")

# A number of events that no session has. The server does nothing else during a loop over them.
_MOST_NUMBERS: Final = 1_000_000

_FUNCTIONS: Final = f"""
local function read(key, ...)
    if redis.call('TYPE', key).ok ~= 'hash' then return {{}} end
    return redis.call('HMGET', key, ...)
end

-- Return the number of the first event, that of the next one, and how many there are.
local function get_events(key, first, after, gone)
    first, after, gone = tonumber(first or 0), tonumber(after or 0), tonumber(gone or 0)
    if first and after and gone and after - first - gone >= 0 and after - first < {_MOST_NUMBERS} then
        return first, after, after - first - gone
    end
    local count = 0
    first, after = nil, 0
    for _, name in ipairs(redis.call('HKEYS', key)) do
        local number = tonumber(string.match(name, '^event:(%d+)$'))
        if number then
            first, after, count = math.min(first or number, number), math.max(after, number + 1), count + 1
        end
    end
    if after - (first or 0) >= {_MOST_NUMBERS} then first = after - {_MOST_NUMBERS} end
    return first or 0, after, count
end
"""

# The status is the second member of what `dump_state` writes; an encrypted state is returned as it is.
SUMMARY_SCRIPT: Final = (
    _FUNCTIONS
    + """
local function get_status(state)
    if not state or string.byte(state, 1) == 1 then return state or '' end
    return string.match(state, '"status":%s*"([^"]*)"') or '?'
end

local cutoff, since, till = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])
local status, delivery = ARGV[4], ARGV[5]
local found = {}

local function has_delivery(key, first, after, open, dead)
    if delivery == 'd' then return dead ~= '' end
    if delivery ~= 'h' and not open then return false end
    for number = first, after - 1 do
        local entry = redis.call('HGET', key, 'delivery:' .. number)
        if entry and string.sub(entry, 1, 1) == delivery then return true end
    end
    return false
end

for index, key in ipairs(KEYS) do
    local values = read(key, 'touched', 'first', 'after', 'gone', 'open', 'dead', 'state', 'search')
    if #values > 0 then
        local touched, open, dead = tonumber(values[1]) or tonumber(ARGV[5 + index]), values[5], values[6] or ''
        local first, after, events = get_events(key, values[2], values[3], values[4])
        local actual = get_status(values[7])
        local is_hidden = actual == '?' or string.byte(actual, 1) == 1
        if events > 0 and (touched > cutoff or open) and touched >= since and touched < till
            and (status == '' or status == actual or is_hidden)
            and (delivery == '' or has_delivery(key, first, after, open, dead))
        then
            local search = is_hidden and values[8] or ''
            touched = string.format('%.6f', touched)
            found[#found + 1] = {index - 1, touched, actual, events, open or '', dead, search}
        end
    end
end
return found
"""
)

RECORDS_SCRIPT: Final = (
    _FUNCTIONS
    + """
local cutoff, status, limit, without_session = tonumber(ARGV[1]), ARGV[2], tonumber(ARGV[3]), ARGV[4]
local found = {}

local function contains(numbers, number)
    return string.find(' ' .. (numbers or '') .. ' ', ' ' .. number .. ' ', 1, true)
end

-- Return the first letter of the status; if it is damaged, as far as the session shows it.
local function get_letter(text, number, open, dead)
    local letter = string.sub(text, 1, 1)
    if letter == '' and not contains(open, number) then return '' end
    if string.match(text, '^[qlhd]\\t') then return letter end
    if contains(dead, number) then return 'd' end
    return contains(open, number) and 'q' or 'h'
end

-- Return the key of an event that was deleted or damaged, by its number.
local function find_key(key, number)
    local fields = redis.call('HGETALL', key)
    for index = 1, #fields, 2 do
        if string.sub(fields[index], 1, 4) == 'key:' and string.match(fields[index + 1], '^%S* (%d+)') == number then
            return string.sub(fields[index], 5)
        end
    end
    return ''
end

for index, key in ipairs(KEYS) do
    local values = read(key, 'touched', 'first', 'after', 'open', 'gone', 'dead')
    local count, touched = 0, tonumber(values[1]) or tonumber(ARGV[4 + index])
    local open = key ~= without_session and values[4] or ''  -- without a session, only their count
    if #values > 0 and (touched > cutoff or values[4]) then
        local first, after = get_events(key, values[2], values[3], values[5])
        for number = after - 1, first, -1 do
            local name = string.format('%.0f', number)
            local delivery = redis.call('HGET', key, 'delivery:' .. name) or ''
            local letter = get_letter(delivery, name, open, values[6])
            local event = (status == '' or status == letter) and redis.call('HGET', key, 'event:' .. name)
            if event or (letter ~= '' and (status == '' or status == letter)) then
                local dedup_key, kind = string.match(event or '', '^(.*)\\n([^\\n]*)\\n[^\\n]*$')
                local is_damaged = not dedup_key
                if is_damaged then dedup_key, kind = find_key(key, name), 'unknown' end
                local mark = redis.call('HGET', key, 'key:' .. dedup_key) or ''
                touched = string.format('%.6f', touched)
                found[#found + 1] = {
                    index - 1, name, dedup_key, kind, mark, letter, delivery, touched, is_damaged and '1' or ''
                }
                count = count + 1
                if count == limit then break end
            end
        end
    end
end
return found
"""
)

COUNT_SCRIPT: Final = (
    _FUNCTIONS
    + """
local cutoff, till = tonumber(ARGV[1]), tonumber(ARGV[2])
local sessions, events, dead, oldest = 0, 0, 0, false
for index, key in ipairs(KEYS) do
    local values = read(key, 'touched', 'first', 'after', 'gone', 'open', 'dead')
    if #values > 0 then
        local _, _, count = get_events(key, values[2], values[3], values[4])
        local touched = tonumber(values[1]) or tonumber(ARGV[2 + index])
        if count > 0 and (touched > cutoff or values[5]) and touched < till then
            sessions, events = sessions + 1, events + count
            if not oldest or touched < oldest then oldest = touched end
            for _ in string.gmatch(values[6] or '', '%d+') do dead = dead + 1 end
        end
    end
end
return {sessions, events, dead, oldest and string.format('%.6f', oldest) or ''}
"""
)
