"""The scripts by which `RedisInbox` passes events to handlers; see `_redis_deliveries`.

Another program may have written anything to the fields of a session, so no script may fail for one of many sessions.
"""

from __future__ import annotations

from typing import Final

__all__ = ("CLAIM_SCRIPT", "EXTEND_SCRIPT", "GIVE_BACK_SCRIPT", "LEASE_SCRIPT", "REQUEUE_SCRIPT", "SETTLE_SCRIPT")

_FUNCTIONS: Final = """
local function get_time(given)
    if given ~= '' then return tonumber(given) end
    local time = redis.call('TIME')
    return tonumber(time[1]) + tonumber(time[2]) / 1000000
end

local function format(seconds) return string.format('%.6f', seconds) end

local function split(text)
    local parts = {}
    for part in string.gmatch(text .. '\\t', '([^\\t]*)\\t') do parts[#parts + 1] = part end
    return parts
end

-- The error of a full server or a replica, without what Redis 6.2 puts before it: redis-py chooses the class of an
-- error by its first word.
local function get_error(reply)
    if type(reply) ~= 'table' or not reply.err then return nil end
    return {err = (string.gsub(string.gsub(reply.err, '^@user_script.- %-', ''), '%s+$', ''))}
end

-- Another program may have written anything, also a number that no command takes.
local function get_number(text, default)
    local number = tonumber(text or '')
    if number and number > -1e12 and number < 1e12 then return number end
    return default
end

local function is_whole(entry)
    for index = 2, 5 do if not get_number(entry[index]) then return false end end
    return #entry == 9
end

-- The clock was set back if the time is further away than twice the delay: see `is_due` of the other inboxes.
local function is_due(due, span, now) return due <= now or due - now > 2 * span end

-- An attempt of the caller: its hash, member, number and token, and the text of its entry. For each hash, from the key
-- `first` on, three arguments follow the second one. An attempt without a number is about the first event of its
-- session. The number is nil if the session is not stored.
local function read_attempt(first, index)
    local key, at = KEYS[index], 3 + (index - first) * 3
    local number = ARGV[at + 1]
    if redis.call('TYPE', key).ok ~= 'hash' then
        number = nil
    elseif number == '' then
        number = string.match(redis.call('HGET', key, 'open') or '', '^%d+')
    end
    local text = number and redis.call('HGET', key, 'delivery:' .. number) or ''
    return key, ARGV[at], number, ARGV[at + 2], text
end
"""

# Every script begins to write with a command whose error it returns, before anything is changed.
CLAIM_SCRIPT: Final = (
    _FUNCTIONS
    + """
local ready, waiting, latest, open = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local now, limit, seconds, most = get_time(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[4])

local function make_ready(members)
    for _, member in ipairs(members) do
        local position = redis.call('ZSCORE', open, member)
        if position then
            local failure = get_error(redis.pcall('ZADD', ready, position, member))
            if failure then return failure end
        end
        redis.call('ZREM', waiting, member)
        redis.call('ZREM', latest, member)
    end
end

local full = make_ready(redis.call('ZRANGEBYSCORE', waiting, '-inf', format(now), 'LIMIT', 0, most))
    or make_ready(redis.call('ZRANGEBYSCORE', latest, '(' .. format(now), '+inf', 'LIMIT', 0, most))
if full then return full end
local members = redis.call('ZRANGE', ready, 0, limit - 1)
for _, member in ipairs(members) do
    local failure = get_error(redis.pcall('ZADD', waiting, format(now + seconds), member))
    if failure then return failure end
    redis.call('ZADD', latest, format(now - seconds), member)
    redis.call('ZREM', ready, member)
end
return members
"""
)

LEASE_SCRIPT: Final = (
    _FUNCTIONS
    + """
local ready, waiting, latest, open, counts = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5]
local now, seconds = get_time(ARGV[1]), tonumber(ARGV[2])
local leased = {}
for index = 6, #KEYS do
    local key, member, number, token, text = read_attempt(6, index)
    local entry, is_damaged = split(text), false
    if number and not is_whole(entry) then
        -- It is leased with what is known of it, so that it can become a dead letter.
        is_damaged = true
        local status = string.sub(text, 1, 1) == 'l' and 'l' or 'q'
        entry = {status, '0', redis.call('ZSCORE', open, member) or format(now), format(now), '0', '', '', '', ''}
    end
    if entry[1] ~= 'q' and entry[1] ~= 'l' then
        -- The session was deleted, or evicted by a server with too little memory.
        redis.call('ZREM', waiting, member)
        redis.call('ZREM', latest, member)
        redis.call('ZREM', open, member)
    elseif entry[6] == token or is_due(tonumber(entry[4]), tonumber(entry[5]), now) then
        if entry[6] ~= token then
            local was_queued = entry[1] == 'q'
            entry[1], entry[2], entry[6] = 'l', tostring(tonumber(entry[2]) + 1), token
            entry[4], entry[5] = format(now + seconds), format(seconds)
            text = table.concat(entry, '\\t')
            local failure = get_error(redis.pcall('HSET', key, 'delivery:' .. number, text))
            if failure then return failure end
            if was_queued then redis.call('HINCRBY', counts, 'leased', 1) end
            redis.call('ZREM', ready, member)
            redis.call('ZADD', waiting, entry[4], member)
            redis.call('ZADD', latest, format(now - seconds), member)
        end
        local event = not is_damaged and redis.call('HGET', key, 'event:' .. number)
        local dedup_key = string.match(event or '', '^(.*)\\n[^\\n]*\\n[^\\n]*$')
        -- Not nil, with which Lua would end the list: the event cannot be read, and becomes a dead letter.
        local mark = dedup_key and redis.call('HGET', key, 'key:' .. dedup_key) or false
        local session = redis.call('HMGET', key, 'touched', 'state', 'submission')
        leased[#leased + 1] = {index - 6, number, text, event, mark, session[1], session[2], session[3]}
    else
        redis.call('ZADD', waiting, entry[4], member)
        redis.call('ZADD', latest, format(tonumber(entry[4]) - 2 * tonumber(entry[5])), member)
    end
end
return leased
"""
)

# What has not begun becomes ready without a change. The order of the queue stays as it was.
GIVE_BACK_SCRIPT: Final = (
    _FUNCTIONS
    + """
local ready, waiting, latest, open, counts = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5]
local now, error = get_time(ARGV[1]), ARGV[2]
for index = 6, #KEYS do
    local key, member, number, token, text = read_attempt(6, index)
    local entry = split(text)
    if entry[1] == 'l' and entry[6] == token and is_whole(entry) then
        entry[1], entry[2], entry[6] = 'q', tostring(math.max(0, tonumber(entry[2]) - 1)), ''
        entry[4], entry[5] = format(now), format(0)
        if error ~= '' then entry[9] = error end
        local failure = get_error(redis.pcall('HSET', key, 'delivery:' .. number, table.concat(entry, '\\t')))
        if failure then return failure end
        redis.call('HINCRBY', counts, 'leased', -1)
    end
    local position = redis.call('ZSCORE', open, member)
    if entry[1] == 'q' and position then
        redis.call('ZADD', ready, position, member)
        redis.call('ZREM', waiting, member)
        redis.call('ZREM', latest, member)
    end
end
return 1
"""
)

EXTEND_SCRIPT: Final = (
    _FUNCTIONS
    + """
local ready, waiting, latest = KEYS[1], KEYS[2], KEYS[3]
local now, seconds = get_time(ARGV[1]), tonumber(ARGV[2])
local held = {}
for index = 4, #KEYS do
    local key, member, number, token, text = read_attempt(4, index)
    local entry = split(text)
    if entry[1] == 'l' and entry[6] == token then
        entry[4], entry[5] = format(now + seconds), format(seconds)
        local failure = get_error(redis.pcall('HSET', key, 'delivery:' .. number, table.concat(entry, '\\t')))
        if failure then return failure end
        redis.call('ZREM', ready, member)
        redis.call('ZADD', waiting, entry[4], member)
        redis.call('ZADD', latest, format(now - seconds), member)
        held[#held + 1] = index - 4
    end
end
return held
"""
)

SETTLE_SCRIPT: Final = (
    _FUNCTIONS
    + """
local ready, waiting, latest, open, dead, key = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5], KEYS[6]
local counts, requeued = KEYS[7], KEYS[8]
local now, member, number, token, status = get_time(ARGV[1]), ARGV[2], ARGV[3], ARGV[4], ARGV[5]
local handled_by, error, delay, is_counted = ARGV[6], ARGV[7], tonumber(ARGV[8]), ARGV[9]
local session, expiry, call = ARGV[10], tonumber(ARGV[11]), ARGV[12]
local field = 'delivery:' .. number
local entry = split(redis.call('HGET', key, field) or '')
if entry[7] == call then return 1 end
if entry[1] ~= 'l' or entry[6] ~= token then return 0 end
entry[8] = handled_by
if status ~= 'l' then
    entry[1], entry[6], entry[7], entry[9] = status, '', call, error
    entry[4], entry[5] = format(now + delay), format(delay)
    if is_counted == '0' then entry[2] = tostring(tonumber(entry[2]) - 1) end
end
local failure = get_error(redis.pcall('HSET', key, field, table.concat(entry, '\\t')))
if failure then return failure end
if status == 'l' then return 1 end
redis.call('HINCRBY', counts, 'leased', -1)
redis.call('ZREM', ready, member)
redis.call('ZREM', waiting, member)
redis.call('ZREM', latest, member)
if status == 'q' then
    if delay > 0 then
        redis.call('ZADD', waiting, entry[4], member)
        redis.call('ZADD', latest, format(now - delay), member)
    else
        redis.call('ZADD', ready, entry[3], member)
    end
    return 1
end
redis.call('HINCRBY', counts, 'open', -1)
redis.call('ZREM', requeued, number .. ':' .. session)
if status == 'd' then
    redis.call('ZADD', dead, entry[3], number .. ':' .. session)
    redis.call('PEXPIRE', dead, expiry)
    local numbers = redis.call('HGET', key, 'dead')
    redis.call('HSET', key, 'dead', (numbers and numbers ~= '') and numbers .. ' ' .. number or number)
end
local left = ''
if member == session then
    left = string.match(redis.call('HGET', key, 'open') or '', '^%d+ (%d.*)$') or ''
    if left ~= '' then
        local following = split(redis.call('HGET', key, 'delivery:' .. string.match(left, '^%d+')) or '')
        local position = is_whole(following) and following[3] or format(now)
        redis.call('ZADD', open, position, member)
        redis.call('ZADD', ready, position, member)
    else
        redis.call('ZREM', open, member)
    end
else
    local count = get_number(redis.call('HGET', key, 'open'), 1) - 1
    if count > 0 then left = tostring(count) end
    redis.call('ZREM', open, member)
end
if left ~= '' then
    redis.call('HSET', key, 'open', left)
else
    redis.call('HDEL', key, 'open')
    local touched = get_number(redis.call('HGET', key, 'touched'), now)
    redis.call('PEXPIRE', key, string.format('%.0f', math.max(60000, (touched - now) * 1000 + expiry)))
end
return 1
"""
)

REQUEUE_SCRIPT: Final = (
    _FUNCTIONS
    + """
local ready, waiting, latest, open, dead, key = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5], KEYS[6]
local counts, requeued = KEYS[7], KEYS[8]
local now, member, number, token, session = get_time(ARGV[1]), ARGV[2], ARGV[3], ARGV[4], ARGV[5]
local field = 'delivery:' .. number
local event = redis.call('HGET', key, 'event:' .. number)
if not event or string.match(event, '^(.*)\\n[^\\n]*\\n[^\\n]*$') ~= ARGV[6] then return 0 end
local entry = split(redis.call('HGET', key, field) or '')
if entry[1] == 'q' or entry[1] == 'l' then return entry[6] == token and entry[1] == 'q' and 1 or 0 end
local last = tonumber(redis.call('ZREVRANGE', ready, 0, 0, 'WITHSCORES')[2] or 0)
local position = now
if last >= now and last < now + 1 then position = last + 0.000001 end
position = format(position)
local text = table.concat({'q', '0', position, format(now), '0.000000', token, entry[7] or '', '', ''}, '\\t')
local failure = get_error(redis.pcall('HSET', key, field, text))
if failure then return failure end
redis.call('PERSIST', key)
redis.call('HINCRBY', counts, 'open', 1)
local mark = redis.call('HGET', key, 'key:' .. ARGV[6]) or ''
local touched = get_number(redis.call('HGET', key, 'touched'), now)
local recorded = get_number(string.match(mark, '^%S+ %d+ ([%d.]+)'), touched)
redis.call('ZADD', requeued, format(recorded), number .. ':' .. session)
local left = {}
for other in string.gmatch(redis.call('HGET', key, 'dead') or '', '%d+') do
    if other ~= number then left[#left + 1] = other end
end
if #left > 0 then redis.call('HSET', key, 'dead', table.concat(left, ' ')) else redis.call('HDEL', key, 'dead') end
redis.call('ZREM', dead, number .. ':' .. session)
local numbers = redis.call('HGET', key, 'open') or ''
if member ~= session then
    redis.call('HSET', key, 'open', tostring(get_number(numbers, 0) + 1))
elseif numbers ~= '' then
    redis.call('HSET', key, 'open', numbers .. ' ' .. number)
    return 1
else
    redis.call('HSET', key, 'open', number)
end
redis.call('ZADD', open, position, member)
redis.call('ZADD', ready, position, member)
return 1
"""
)
