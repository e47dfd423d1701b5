#!/bin/bash
# IBM's documented procedure for one virtual server, as the loop of its tutorial "migrate from classic"
# (IBM-Cloud/vpc-tutorials, 030-capture-classic-to-cos.sh) goes: capture, poll every 10 s, copy to Object Storage, poll every
# 10 s. slcli and curl stand for the ibmcloud command. One thing differs: the tutorial takes an image without any child
# for a finished one, and would try to copy it within the first seconds; this waits for the child as well.
#
#   export_one.sh GUEST_ID    with SL_CONF, IAM_URL, COS_URL, REGION, BUCKET, API_KEY, PREFIX and POLL in the environment
set -euo pipefail

guest=$1
name=$PREFIX-$guest-image
group=SoftLayer_Virtual_Guest_Block_Device_Template_Group
sl() { slcli -C "$SL_CONF" --format json "$@"; }

sl vs capture "$guest" -n "$name" --note "capture of $guest" > /dev/null

image=$(sl image list --private --name "$name" | sed -n 's/.*"Id": \([0-9]*\).*/\1/p')

until sl call-api $group getObject --id "$image" --mask 'children[transactionId]' | tr -d ' \n' |
      grep -q '"children":\[{"transactionId":null'
do
    sleep "$POLL"
done

sl image export "$image" "cos://$REGION/$BUCKET/$name.vhd" --ibm-api-key "$API_KEY" > /dev/null

token=$(curl -sf --noproxy '*' --data-urlencode grant_type=urn:ibm:params:oauth:grant-type:apikey \
             --data-urlencode apikey@<(printf %s "$API_KEY") "$IAM_URL" |
        sed -n 's/.*"access_token": *"\([^"]*\)".*/\1/p')
until curl -sfI --noproxy '*' -H @<(printf 'Authorization: Bearer %s' "$token") "$COS_URL/$BUCKET/$name-0.vhd" > /dev/null
do
    sleep "$POLL"
done

echo "$guest"
