-- Our reduce and the service must agree to the cent wherever all events of the cart are known.
select
    cart_id,
    value_usd,
    checked_out_total_usd
from {{ changed('carts') }}
where
    status = 'checked_out'
    and not has_missing_events
    and value_usd <> checked_out_total_usd
