"""What customers of a made-up shop with a subscription app write about: phrases per intent, and what every ticket shares.

`[a|b]` is a choice (nesting allowed), `{name}` a slot. `problem` says what happened, `ask` what is wanted, `topic` names the matter
as a noun phrase, so that one ticket can mention a second matter in passing.
"""

INTENTS = {
    "billing_dispute": {
        "problem": [
            "[I was|we were|I have been] [charged|billed] [twice|two times|double] for [order {order}|the same month|one purchase]",
            "there is [a charge|a debit] of {amount} on my [card|statement|bank account] that I [do not recognise|never agreed to|cannot explain]",
            "my [card|account] was debited {amount} instead of {amount2}",
            "you [took|withdrew|collected] {amount} [too much|more than agreed] on {date}",
            "the price I [paid|was billed] is [higher|much higher] than the [one advertised|quote|price on your site]",
            "[an unknown|a mysterious|a surprise] fee of {amount} [shows up|appeared] on this month's bill",
            "the discount code was [not applied|ignored] and I [paid|was charged] full price",
        ],
        "ask": [
            "please [reverse|correct|remove] the [extra|wrong|duplicate] charge",
            "can you explain what this [charge|fee|debit] is for",
            "I want the [overcharge|double charge|bill] [corrected|looked into]",
            "someone needs to [check|review] what I was [billed|charged]",
        ],
        "topic": ["the [double|duplicate|wrong|extra] charge", "the [billing mistake|overcharge]", "that [strange|unknown] fee on my bill",
                  "the amount you debited"],
    },
    "refund_status": {
        "problem": [
            "I sent [the {product}|everything] back [{weeks} weeks ago|on {date}] and [still have no refund|the money has not arrived]",
            "my refund of {amount} [was promised|was approved|was confirmed] on {date} but [nothing has arrived|my account shows nothing]",
            "you [promised|confirmed] [my money back|a refund] for order {order} and I [am still waiting|have seen nothing so far]",
            "the [refund|reimbursement] for the {product} is [overdue|taking forever|still pending]",
            "the return was [received|accepted] at your warehouse on {date} yet [no money came back|I was never reimbursed]",
        ],
        "ask": [
            "when can I expect [my money back|the refund|the reimbursement]",
            "when will [the refund|the reimbursement|my money] arrive",
            "[where is|what happened to|please check on] my refund",
            "please [tell me|let me know] the status of my [refund|reimbursement]",
            "can you confirm that the [refund|money] [is on its way|was sent]",
        ],
        "topic": ["my [outstanding|pending|missing] refund", "the [refund|reimbursement] for the {product}", "the money you owe me back",
                  "the refund of {amount}"],
    },
    "delivery_delay": {
        "problem": [
            "order {order} was [due|supposed to arrive|expected] on {date} and [is still not here|has not come]",
            "my [parcel|package|shipment] has been [stuck|sitting] in {city} for {days} days",
            "[tracking|the tracking page|the courier's site] has not [moved|changed|updated] since {date}",
            "the [courier|driver|carrier] says [delivered|it was left at the door] but [nothing is here|I received nothing]",
            "I [have been waiting|am waiting] {weeks} weeks for [my {product}|the {product}|a parcel] to [arrive|be delivered]",
            "the {product} I ordered [never showed up|did not arrive|is running late]",
        ],
        "ask": [
            "where is my [parcel|order|package|delivery]",
            "when will [it|my order|the parcel] [arrive|be delivered]",
            "please [trace|track down|find] the [shipment|parcel|package]",
            "can you [ask the courier|check with the carrier] where it is",
        ],
        "topic": ["the [late|missing|delayed] [parcel|delivery|package]", "the [parcel|shipment] stuck in {city}", "the delivery of order {order}"],
    },
    "damaged_item": {
        "problem": [
            "the {product} [arrived|came|turned up] [broken|cracked|smashed|in pieces]",
            "the [screen|lid|handle|casing] of the {product} is [cracked|scratched|bent|dented]",
            "the box was [crushed|soaked|torn open] and the {product} [inside|in it] is [damaged|ruined]",
            "my {product} stopped working [after {days} days|the first time I used it|straight out of the box]",
            "the {product} [has a defect|is faulty|will not switch on]",
            "there is a [big crack|deep scratch|hole] in the {product} [you sent|I got] on {date}",
        ],
        "ask": [
            "I [need|want|would like] a [replacement|working one] [please|as soon as possible|]",
            "please send [a new one|an undamaged one|a replacement]",
            "what do I do with [a broken {product}|the damaged one]",
            "do you need photos of the damage",
        ],
        "topic": ["the [broken|cracked|damaged|faulty] {product}", "the damage to the {product}", "the {product} that arrived in pieces"],
    },
    "wrong_item": {
        "problem": [
            "I ordered [a|the] {product} but [received|got|was sent] a {product2}",
            "you sent [the wrong|a different] [colour|size|model] of the {product}",
            "order {order} contained [somebody else's items|a {product2} that I never ordered|something completely different]",
            "the {product} in the box is [not the one I chose|a different version|the wrong model]",
            "instead of the {product} there was a {product2} in the [parcel|box|package]",
            "one item of order {order} is [missing|not in the box], [only the {product2} was there|the {product} was left out]",
        ],
        "ask": [
            "please send [the right one|the correct item|what I ordered]",
            "how do we [swap|sort out] [the mix-up|this mix-up]",
            "can I get the item I [actually|really] ordered",
            "please [pick up|collect] the wrong one and ship the [right|correct] one",
        ],
        "topic": ["the [mix-up|mixed up items] in order {order}", "the wrong [colour|size|model|item] you sent", "the {product2} I never ordered",
                  "the item missing from the box"],
    },
    "return_request": {
        "problem": [
            "the {product} [does not suit me|is not what I hoped for|is too small|is too big]",
            "I [changed my mind|have second thoughts] about the {product}",
            "I [no longer need|do not want to keep] the {product} [I bought on {date}|from order {order}|]",
            "the {product} was a gift and [she already has one|it does not fit]",
            "I am still within the {days} day [return window|return period] for order {order}",
        ],
        "ask": [
            "how do I [return|send back] [it|the {product}|an item]",
            "please [email|send] me a return label",
            "I [want|would like] to [return|send back|exchange] [it|the {product}]",
            "what is your return policy [for this|for opened boxes|]",
            "can I exchange it for [a bigger size|another colour|a {product2}]",
        ],
        "topic": ["the return label", "returning the {product}", "the exchange of the {product}", "the item I want to send back"],
    },
    "account_access": {
        "problem": [
            "I [cannot|can't|am unable to] [log in|sign in] [to my account|on your site|any more]",
            "my password is [rejected|not accepted|refused] [every time|since {date}|]",
            "the [reset|password reset] [link|email] [never arrives|has expired|does nothing]",
            "my account is [locked|blocked] after [too many|three] attempts",
            "the [code|verification code|six digit code] [never reaches my phone|is always wrong]",
            "I [forgot|lost] my password and [no longer have|cannot open] the old mailbox",
        ],
        "ask": [
            "please [unlock|unblock] my [account|login]",
            "can you [reset|restore] my [password|access]",
            "how do I get back into my account",
            "please send [a new|another] [reset link|verification code]",
        ],
        "topic": ["my [locked|blocked] account", "the [login|password] problem", "the verification code", "the password reset"],
    },
    "cancel_subscription": {
        "problem": [
            "I [do not use|hardly use|no longer need] the {plan} plan",
            "the {plan} [subscription|membership] [renews|will renew] on {date} and I do not want that",
            "I [moved|am moving] to [another provider|a competitor]",
            "the {plan} plan has become too expensive for [me|us|our team]",
            "my free trial [ends|runs out] [on {date}|in {days} days] and I [will not|do not want to] continue",
        ],
        "ask": [
            "please [cancel|terminate|end] my [subscription|membership|{plan} plan]",
            "I [want|would like|need] to [cancel|unsubscribe|stop the automatic renewal]",
            "how do I [cancel|end] [the subscription|my plan|the trial]",
            "please [switch off|turn off|stop] the [automatic renewal|auto renewal]",
        ],
        "topic": ["the cancellation of my {plan} plan", "ending my [subscription|membership]", "the automatic renewal", "my plan to unsubscribe"],
    },
    "change_address": {
        "problem": [
            "we [moved|are moving] to {city} [on {date}|last month|next week]",
            "my [delivery|shipping|postal] address is [out of date|wrong|no longer valid]",
            "I [typed|entered] the wrong [street|house number|postcode] for order {order}",
            "order {order} is going to my old [flat|office|house] in {city}",
            "there is a mistake in the [postcode|street name] of my profile",
        ],
        "ask": [
            "please [change|update|correct] my [address|shipping address|delivery address]",
            "can you send it to {street} in {city} instead",
            "my new address is {street}, {city}",
            "how do I [edit|change] the [address|postcode] in my profile",
        ],
        "topic": ["my new address", "the change of address", "the wrong [postcode|street|house number]", "my move to {city}"],
    },
    "app_error": {
        "problem": [
            "the app [crashes|freezes|closes itself] [whenever|every time] I open [the {screen}|it|my {screen}]",
            "your [website|site|app] shows error {code} [on the {screen}|when I press save|all the time]",
            "since the [update|new version|upgrade] the {screen} [is blank|will not load|is very slow] on my {device}",
            "the {screen} [spins forever|hangs|stays empty] on my {device}",
            "the app [will not sync|stopped syncing] between my {device} and the website",
            "notifications [do not work|stopped coming] on my {device}",
        ],
        "ask": [
            "please [fix|look into] this [bug|crash|error]",
            "is there a [fix|workaround|patch] for [this|the crash]",
            "what does error {code} mean",
            "should I reinstall the app",
        ],
        "topic": ["the [crash|bug|error] in the app", "error {code}", "the frozen {screen}", "the app on my {device}"],
    },
    "feature_request": {
        "problem": [
            "it would be [great|very useful|nice] to have {feature}",
            "I [miss|really miss] {feature} in the app",
            "other apps [offer|already have] {feature} and yours does not",
            "our team would [love|pay extra for] {feature}",
            "[the app|your product] still lacks {feature}",
        ],
        "ask": [
            "could you [add|build|introduce] {feature}",
            "is {feature} [planned|on the roadmap]",
            "please [consider|think about] adding {feature}",
            "please pass this [idea|suggestion|wish] on to the developers",
        ],
        "topic": ["my [idea|suggestion|wish] about {feature}", "the request for {feature}", "the feature I suggested"],
    },
    "invoice_copy": {
        "problem": [
            "I [never received|cannot find|lost] the invoice for order {order}",
            "the invoice [shows the wrong company name|has no tax number|is missing our company name]",
            "our [accountant|bookkeeper|finance team] [needs|is asking for] [a proper invoice|a receipt|a tax invoice]",
            "the [download of the invoice|invoice PDF] is [empty|unreadable|only in German]",
            "I have to file [my expenses|our taxes] and the receipt of {date} is missing",
        ],
        "ask": [
            "please [send|email|mail] me [the invoice|a copy of the invoice|the receipt] [for order {order}|as PDF|]",
            "can you put our [tax number|company name] on the invoice",
            "where can I download my [invoices|receipts]",
            "I need [an invoice|a receipt] [with VAT|made out to our company]",
        ],
        "topic": ["the [missing|corrected] invoice", "the [invoice|receipt] for order {order}", "our tax invoice", "the receipt of {date}"],
    },
    "payment_method": {
        "problem": [
            "my [credit card|debit card|card] [expires|expired|was replaced] [this month|on {date}|last week]",
            "the checkout [declines|rejects|refuses] my [card|credit card] although [there is enough money|my bank sees no problem]",
            "I [have a new|changed my] [bank account|credit card|bank]",
            "[paying|payment] [by {payment}|with {payment}] [fails|does not go through] at the checkout",
            "the old card is still [saved|stored] as my way to pay",
        ],
        "ask": [
            "how do I [update|replace|change] my [card details|payment method|bank details]",
            "please [switch|change] my payment to {payment}",
            "can I pay [by|with] {payment} [instead|in future|]",
            "do you accept {payment}",
        ],
        "topic": ["my [new|expired|declined] [card|credit card]", "the change of payment method", "my new bank details", "paying by {payment}"],
    },
    "data_privacy": {
        "problem": [
            "I [do not want|never agreed] that my [personal data|details|email address] is [shared|used for advertising|passed on]",
            "I keep getting [marketing mails|newsletters|advertising] [although I opted out|every day]",
            "I [am worried about|have questions about] what you [store|know|keep] about me",
            "a stranger [seems to have used|logged into|saw] my [profile|details] [from {city}|]",
            "I [closed|stopped using] the account [long ago|in spring] and you still [hold|keep] my personal data",
        ],
        "ask": [
            "please [delete|erase|wipe] [all my personal data|my profile and all data|everything you store about me]",
            "I [request|want|ask for] a copy of [all data|the personal data] you hold about me",
            "take me off [the mailing list|your newsletter|all marketing lists]",
            "who [has access to|can see] my personal data",
        ],
        "topic": ["the deletion of my data", "my privacy [question|request]", "the unwanted newsletters", "the personal data you store"],
    },
}

SLOTS = {
    "product": ["kettle", "desk lamp", "headset", "backpack", "coffee grinder", "office chair", "keyboard", "phone case", "blender", "rain jacket",
                "running watch",
                "tent", "bike helmet", "monitor", "toaster", "water bottle", "speaker", "suitcase", "yoga mat", "vacuum cleaner", "watch",
                "air fryer"],
    "city": ["Leeds", "Bristol", "Porto", "Lyon", "Ghent", "Austin", "Denver", "Cork", "Malmo", "Turin", "Graz", "Oslo", "York", "Boston", "Zagreb"],
    "street": ["{n} Mill Road", "{n} Park Lane", "{n} Station Street", "{n} High Street", "{n} Garden Way", "{n} Lake View", "{n} Church Hill"],
    "plan": ["Basic", "Plus", "Premium", "Family", "Business", "Student"],
    "screen": ["settings page", "order history", "checkout", "search page", "calendar", "dashboard", "wish list", "photo gallery"],
    "device": ["tablet", "old phone", "laptop", "new phone", "work computer"],
    "feature": ["a dark mode", "an offline mode", "calendar sharing", "an export to spreadsheets", "a widget for the home screen", "voice control",
                "keyboard shortcuts",
                "support for two languages", "a shared shopping list", "price alerts", "a barcode scanner", "custom colours"],
    "payment": ["bank transfer", "gift card", "direct debit", "a virtual card", "mobile wallet"],
    "date": ["Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "the first of May", "the 3rd of June", "12 March", "the 20th", "7 October",
             "the 28th of April", "last weekend"],
    "weeks": ["two", "three", "four", "five", "six"],
    "days": ["3", "4", "5", "6", "8", "10", "14", "30"],
    "code": ["401", "403", "404", "500", "502", "E17", "E23", "0x80"],
    "name": ["Anna", "Marek", "Priya", "Tom", "Lucia", "Jonas", "Wei", "Fatima", "Olga", "Sam", "Ines", "Noah", "Ruth", "Kofi", "Elena", "Hugo"],
}

# A second matter that is only mentioned; {topic} is another intent's. What is settled, postponed or somebody else's is never the main ask.
BACKGROUND = [
    "thanks for [sorting out|solving] {topic}",
    "this is not about {topic}",
    "[forget|ignore|never mind] {topic}",
    "your colleague already [handled|closed] {topic}",
    "please leave {topic} aside",
]
SETTLED = [
    "already [solved|settled]: {problem}",
    "you helped me when {problem}",
    "my old ticket said that {problem}",
]
# Two open matters: {first} and {second} are both described, and one of these says which one the ticket is about.
FOCUS = [
    "[the urgent one is|please start with|what matters today is|my main question is about] {topic}",
]

GREETINGS = ["Hello", "Hi", "Dear support team", "Good morning", "Hi there", "Hello support", "Dear Sir or Madam", "Good afternoon"]
CLOSINGS = ["Best regards", "Thanks in advance", "Kind regards", "Thank you", "Best", "Many thanks", "Regards"]
FILLERS = [
    "I have been a customer for {weeks} years", "I tried the help page first", "your chat robot could not help me", "I hope you can help",
    "I already [called|wrote] [once|twice]",
    "this is the [second|third] time I write", "sorry for the long message", "I am writing from {city}", "my customer number is {order}",
    "please answer by mail", "I could not find this in the FAQ",
    "my [wife|husband|neighbour|boss] told me to write", "I usually like your shop",
]
PRIORITY = {
    "urgent": ["I need this solved today", "this is urgent", "I [fly|leave] tomorrow morning", "we cannot work until this is solved",
               "this is an emergency"],
    "high": ["please be quick", "I am really [annoyed|upset|angry] by now", "I expect an answer this week",
             "this is the last chance before I leave a bad review"],
    "normal": ["", "", "", "", "", "", "please let me know", "looking forward to your answer"],
    "low": ["there is no hurry", "whenever you have time", "no rush at all", "just asking"],
}
