#!/bin/sh
# Everything that a plugin must not do, one misdeed a run, named by its setting `misdeed`.
if [ "$1" = describe ]; then
  echo '{"event":"description","summary":"misbehaves","settings":{"type":"object","properties":{"misdeed":{"type":"string"},"token":{"x-larder-secret":true,"description":"A token."}},"additionalProperties":false}}'
  exit 0
fi
read -r request
misdeed=$(printf '%s' "$request" | sed 's/.*"misdeed":"\([a-z-]*\)".*/\1/')
token=$(printf '%s' "$request" | sed -n 's/.*"token":"\([^"]*\)".*/\1/p')
artifact() { echo '{"event":"artifact","path":"'"$1"'","format":"x"}'; }
[ "$1" = validate ] && case "$misdeed" in
  unproven) exit 0 ;;
  doubtful) echo '{"event":"validation","name":"content","verdict":"failed","detail":"it is '"$token"'"}'; exit 0 ;;
  *) exit 4 ;;
esac
case "$misdeed" in
lies) ;;
absent) artifact a.txt ;;
escapes) echo x > ../x; artifact ../x ;;
absolute) artifact /etc/hostname ;;
links) ln -s /etc/hostname a.txt; artifact a.txt ;;
links-on-the-way) ln -s /etc d; artifact d/hostname ;;
empties) : > a.txt; artifact a.txt ;;
directory) mkdir d; artifact d ;;
repeats) echo x > a.txt; artifact a.txt; artifact a.txt ;;
relative-source) echo '{"event":"source","path":"srv/photos"}' ;;
hangs) echo x > a.txt; artifact a.txt; sleep 1000 ;;
floods) echo x > a.txt; while :; do artifact a.txt; done ;;
chatters) echo x > a.txt; i=0; while [ $i -lt 500 ]; do echo "line $i of no use"; i=$((i+1)); done
  echo '{"event":"sparkle","n":1}'; echo '{"event":"figure","name":"rows","value":-3}'; echo '{"no":"event"}'; artifact a.txt ;;
leaks) echo "token is $token" >&2; echo "stdout too: $token"; echo '{"event":"log","message":"and '"$token"'"}'
  echo '{"event":"failed","code":"refused","message":"'"$token"' is refused","hint":"try '"$token"' again"}'; exit 1 ;;
crashes) echo "disk on fire" >&2; exit 3 ;;
lies-in-the-end) echo x > a.txt; artifact a.txt; echo '{"event":"failed","code":"half_done","message":"only half"}' ;;
waits) echo '{"event":"failed","code":"busy","message":"busy now","retry":true}'; exit 1 ;;
dies) kill -9 $$ ;;
unproven|doubtful) echo x > a.txt; artifact a.txt ;;
esac
