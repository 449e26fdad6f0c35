select event_id, order_id, customer, ordered_on, amount, commit_version
from {{ ref('stg_orders_decoded') }}
where outcome = 'accepted'
