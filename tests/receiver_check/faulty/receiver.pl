#!/usr/bin/perl
# A webhook endpoint of Perl's core modules: one process, one connection after the other.
# The first part of the path names its fault; /none has none. GET /effects/<fault>/<session> returns the effects of a
# session. The server prints its port.

use strict;
use warnings;
use Digest::SHA qw(hmac_sha256_hex);
use IO::Socket::INET;
use JSON::PP;

my ($API_KEY, @SECRETS) = ($ENV{VERIFF_API_KEY}, split /,/, $ENV{VERIFF_SHARED_SECRET});
my $MAX_BODY = 1_048_576;
my %SESSIONS;
my %WORDS = (200 => 'OK', 400 => 'Bad Request', 401 => 'Unauthorized', 405 => 'Method Not Allowed',
    411 => 'Length Required', 413 => 'Content Too Large', 415 => 'Unsupported Media Type', 500 => 'Internal Server Error');

sub is_signed {
    my ($fault, $headers, $body) = @_;
    my ($old, $newer) = @$headers{'x-hmac-signature', 'vrf-hmac-signature'};
    my $signature = lc($old // $newer // '');
    return 0 if defined $old && defined $newer && lc $old ne lc $newer;
    return 0 if lc($headers->{'x-auth-client'} // $headers->{'vrf-auth-client'} // '') ne $API_KEY;
    # The pattern accepts a signature that is anywhere in the header, and an empty one matches everything.
    return grep { hmac_sha256_hex($body, $_) =~ /$signature/ } @SECRETS if $fault eq 'pattern';
    return grep { hmac_sha256_hex($body, $_) eq $signature } @SECRETS;
}

sub work {
    my ($fault, $decision) = @_;
    return if ref $decision ne 'HASH' || !defined $decision->{id} || ref $decision->{id};
    my $session = $SESSIONS{"$fault/$decision->{id}"} //= { keys => {}, count => 0, status => undef, time => '' };
    my $key = join "\0", map { $decision->{$_} // '' } qw(attemptId status decisionTime);
    return if $session->{keys}{$key}++;
    $session->{count}++;
    my $time = $decision->{decisionTime} // '';
    @$session{'status', 'time'} = ($decision->{status}, $time) if $time ge $session->{time};
}

sub receive {
    my ($fault, $method, $headers, $body) = @_;
    return 405 if $method ne 'POST';
    return 401 if !is_signed($fault, $headers, $body);
    my $event = eval { JSON::PP->new->utf8->max_depth(100)->decode($body) };
    return 400 if ref $event ne 'HASH';
    return 400 if $fault eq 'strict-members' && exists $event->{addedLater};
    work($fault, $event->{verification}) if defined $event->{verification};
    return 200;
}

sub serve {
    my ($client) = @_;
    my $data = '';
    until ($data =~ /\r\n\r\n/) {
        return if !sysread($client, $data, 65536, length $data);
    }
    my ($head, $body) = split /\r\n\r\n/, $data, 2;
    my ($first, @lines) = split /\r\n/, $head;
    my ($method, $path) = split / /, $first;
    my %headers;
    for (@lines) {
        my ($name, $value) = split /:\s*/, $_, 2;
        $headers{ ($path eq '/header-case') ? $name : lc $name } = $value;
    }
    my ($fault, $other, $session) = (split m{/}, $path)[1 .. 3];
    if ($fault eq 'effects') {
        my $found = $SESSIONS{"$other/$session"} // { count => 0, status => undef };
        return answer($client, 200, encode_json({ count => $found->{count}, status => $found->{status} }));
    }
    my $length = $headers{'content-length'} // $headers{'Content-Length'} // 0;
    my $type = $headers{'content-type'} // $headers{'CONTENT-TYPE'} // '';
    return answer($client, 411) if $headers{'transfer-encoding'};
    return answer($client, 415) if $headers{'content-encoding'} || ($type && $type !~ m{^application/json\b});
    return answer($client, 413) if $length > $MAX_BODY;
    syswrite($client, "HTTP/1.1 100 Continue\r\n\r\n") if lc($headers{expect} // '') eq '100-continue';
    while ($fault ne 'one-read' && length $body < $length) {
        return if !sysread($client, $body, 65536, length $body);
    }
    sleep 1 if $fault eq 'slow';
    return answer($client, 200, undef, 'never ends') if $fault eq 'endless';
    my $status = eval { receive($fault, $method, \%headers, $body) };
    answer($client, $status // 500);
}

sub answer {
    my ($client, $status, $body, $endless) = @_;
    $body //= '';
    my $length = $endless ? 1_000_000 : length $body;
    syswrite($client, "HTTP/1.1 $status $WORDS{$status}\r\nConnection: close\r\nContent-Length: $length\r\n\r\n$body");
}

local $SIG{PIPE} = 'IGNORE';
my $server = IO::Socket::INET->new(LocalAddr => '127.0.0.1', Listen => 64, ReuseAddr => 1) or die $!;
$| = 1;
print $server->sockport, "\n";
while (my $client = $server->accept) {
    serve($client);
    close $client;
}
