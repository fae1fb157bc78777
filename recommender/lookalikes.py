"""Common words of English, German, French and Spanish that look like a misspelt name of the domain and are not one.

"Intention" is no typo of "attention". The list holds only words within typo distance of a name of the knowledge base or
of medical imaging, folded to lower case without diacritics.
"""

_WORDS = """
    abajo abduction abkommen abolition abortion abril acces acceso accessed accordee accounted accurate actionnaires
    activating actuacion acuerda adapting additive adherence admission adoptive adversaries adversity affection
    aggression agresion agression ahnlich alice alimentation alive altas americas amounted analisis analysed
    analyser analysing analysts analytic analytics ancho anchored anders andersen anderson andert anderung andre
    anerkennung anhanger antagonist anthology aplicacion aplicaciones aporta applique appointing appoints aquellas
    aquellos architecte architectural architektur arenas argumentation arias armas aromatic artworks ascertain
    asociacion assay assemble assertion assignment associating asuncion asymmetric ataco atkinson atras attaining
    attentes attentive attraction attribue attribuer attributed attrition auctions audiencia audio auditing audition
    auditions auditorium auditory aufrecht augmenter aussicht aussieht authority authorize automated automatico
    automation automatisch autorise autorisee autoriser autorises autorizado autoroute averaged aversion aviation
    awaiting awake award backdrop backyard baked barnett barometer bartlett basada basee basel bases basic basics
    basil basin basins batiment batiments battle beach beast bedeuten beech befand bekannte bekannten bekannter
    benannt bereiten bestimmte betreten beverage beweisen bewerben bewerber bewertet bewertung bewirken biased
    bidder bildet binder biografia biologia biologie blacked blank blending blick blinding block blond bloody bloom
    boarding bonding boses bottled bouncing bowed bowen boxed boxeo boxers bradshaw braid branding braun brest brian
    brood brothers bruit brunt brush build builder builders bunch burst cabinet cabinets cafes cages cakes calcular
    calientes calificacion calories cambia cambiado cambian cambiaron cancel cancelar capability capables captures
    caracteristica caracteristique cardenal cardigan cardinal cargo carla carly carne carnet carol carre carres
    carriers carries carro carta cartas cartel carteles cartels carter cartoon cartoons carts carve casas casey
    casse caste castor casts casual catalogo causa causar causas causes cease ceases celebran celebrar celebration
    celebro cello celos centaine certainly certainty certes certitude chained chair chaise chance chances chandler
    chanel chang changed changent changera chante chanter chanteur chantier characteristics charge charger chargers
    charges charte charters chase chases chasse chasseur cheat cheating checa cheek cheeks cheer cheering cherchent
    chercher cherches cherchez chess chick chicks chimique chimiques chine chipping chirurgie chuck citation clans
    clapping clare clarification clarifying clash clasicos classed classics classified classy claus clause clave
    claws cleaning clearing cleavage clerical cleverly clicking clinic clinics clipping close clover clusters
    coefficient cognition coherent coincide coincidence colin collision collusion colony color colouring colton
    combine combines comision comite commuter compagne compara comparar comparer comparte comparten comparto compete
    competed competent competes compiled complete completed completes complexe complexion compliant complice
    complicite complied comporte composed composee composes composing compositeur composition composure compre
    comptent compter compteur comte conceive conception concepto concerns concert concerto concerts concesion
    concession conciertos concluded conclusion concussion condicion condition conditioned conditioner conditions
    conference confesion confession confident confined confluence confondre conforme confusing connects consent
    conservation conservatism consiste consistent consistently constance constant construction contempt contenant
    contend contends contener contenir contenta contento contentos contenu contenus contest contesta contests
    context contexte contexto contexts contextual contiene contient continent continuing continuite contract
    contractual contraire contraria contrario contrast contraste contrasting contrato contrats contributing
    contributor contributors controle controler controles controller controllers convened convenience convent
    convento converse conversion convertible converts convient convince copine correction corrections correlate
    corte cortes coton coulter countered countess counties counting cousine coverage cracking crafty crashing crate
    crates creacion creating creative creature creatures credited creeping crest crever cries criteres criterio
    criterion criterios critica critical critically criticar criticas criticise criticised criticism criticizes
    critico criticos critique critiques croatian croft crois crops crossfit crows cuestion cures curse curses
    curtain curtains curva curved curvy daley damaging debia debian debut decalage decepcion deception decider
    decisive decrease deduction deductions defeating defect defective defectos deficient deflection deformation
    degenerate degeneration degrading delegation deleting delighted delights della delusion demain demission denial
    densite departing dependance dependen dependencia dependencies dependency dependent dependiente depicting
    depiction depletion deportes depresion depression desarrollada desarrollado desarrollados desarrollando
    desarrollar descripcion description descrito destination detected detective detencion detention developed
    developpe developpee developper developpes develops devotion diagnosed dialysis diana diccionario dictionnaire
    diferente differential differentiate direccion direcciones directeur directing direction directional directives
    director directors directos disability discriminate discriminating discrimination discursos discusion disparos
    dispersal disperse dispersed dispersion dissent distancia distancias distincion distinct distinctive distraction
    diversify diversion diversite diversos division doctora doctoral doctorat doktor donation donne draining
    draussen dries drifting drinking dripping drive druben dungeons duplication durability earnings echanger
    echanges ecris editions educacion education efectiva efectivo effected effectif effectifs effectively effectue
    effectuee effektiv efficiency efficiently eficiente egalement egard eingebaut eisen ejecucion ejemplar eleccion
    electing election elections elective electors electron elegance elemental elemento elementos eleventh eminence
    emision emitting enact encoded encounter engen engineered entertain entitled entonces entwickeln entwickelt
    envision epidemic equality equities erection erkennen esconder escribio escribo escrita escritas escritor
    escritora espacial especifica especifico estimado estimated estimating evacuate evacuated evacuation evaluated
    eviction evidenced evidencia evidente evolucion evoluer evolution exacta exacto exaggerating exakt examenes
    examines excavation excepcion exception exceptions excerpts exchange exchanges exciting excluded exclusion
    executed execution exemplaire exemplary exemple exemples exert exigen existing exiting expelled expertise
    experto expiration exploitation exploited exploiter exploiting exploits exploracion exploration explotacion
    export exported exporter exporting exports external externos extinction extraccion extracting extradition
    extrema extremely extremes extremos fable faction factions facto factories factory facture factures fading
    faille faithfully faking faktor falla fallo falls fallt fallu falscher false fatal fault faulty feathers
    featured federacion federation felicidad feral fermentation fester fiber fielding filer fille filler filly
    filmer filtered filtre finalidad fined finger finir fiscales fixer fixtures flashing flirting fluorescent fokus
    folgendes folle folly fonce fonction fonctions fonder fondo fondre fonds forestal foreword formation fortified
    forwarded foster founding fracking fractured fraktion frecuencia frequence friction fruition funcional funcione
    funciones funciono function functional fundacion funding funds fungus funktion gambling gardiens gases gasoline
    gated gatos geant genannt genannte genannten genera generado generally generan generar generated generational
    generaux generell genetic genetica genetics geografia geologist gerant geschaut gesprach gestures globalization
    globally grabbing grady graficos grammaire grano granting grape grapes graphics graphique grasping grating
    gratuite grazing grinding gripping grouping grundung guarding guide guides habilidad hastings heard hears hearty
    highlighted honorary humain humana humano humility identify identitat identite imagina imaginar imagine imagined
    imaginer imagines imaginez imagining imagino immersion immunity impaired impartial impatient implication
    implications implique importan importancia important importante importantes importants importing impunity
    inability inaction incision inclined inclusion incluyen inconsistency increased independant independante
    independants independence independently independiente indicado indicate indicated indicates indication indice
    indicted indies indifference induces induction ineffective inefficient infant infantil infantry infeccion
    infectious infektion infer inference inferieur inflation influenced influencia influencias influencing
    influential influenza informa informacion informal informar informatica informatik informational informative
    informed informo infraction infusion ingenieria ingenierie ingenious inherent injection injections inner
    innovations inpatient insanity inscriptions inserting insight insights inspection instability installe installes
    instancia instant instante instants instinct instincts instituto instrumental instrumento instrumentos insurance
    integracion integrado integral integrale integrantes integrate integrating integre integrer integridad integrite
    intel intencion intention interaccion interact interacting interactive intercept interception interdiction
    interdit interesa intereses interesse interested interet interets interieur internes internet interpretacion
    interpreted intersect intervencion intestinal intimate intolerance intuitive invasion invention inverted
    investigar investigate investigated investigates investigator investigators investing irregular issuance
    iteration jahrliche junction justificacion kalten karen karnten karte kasten kennel kochen konservative
    konservativen konstanz kontrolle konzept konzerte kritiker kritische laden lagen lager laine lament lamented
    lanes lange larga larger largo latest latex laver lawyer leaned leaning learners learnt lease leben lecteurs
    lectores lectures leder legalization legalize leger legion legit lerne lesson levee lever leverage liability
    libel lider lieber liees liens ligament lignes linea lineas lined linen liner liners linge links liter literary
    lived lives livre livrer llama llave lleva localidad localidades locality localized locks logica logico logik
    login lokal looms loops lounge lover loyal loyer lucia lumber lunes machinery madeline madels malas malaysia
    manipulacion manipulating manipulative mannliche marching margen marginal marin marked marking markings martin
    marvin masas maschine maschinen mashed matching maturing measure measures medal medellin mediados medial medic
    medica medicaid medically medicare medicaux medicina medicinal medicinas medics medieval medio medios mejorar
    mente mentoring methodist mexico microscope milano minima missions mitochondrial mobel mobilitat mobilite
    mobility modeled modelled modem modes modified module monat monate monde monograph monter month monto montre
    montrent monty moral morality mortalite mortality morte motel motivacion motivation motivations mounting
    movilidad multa multiplayer multiplied multiplier multiply munitions muscular musst mustered mutti mythology
    nachster nacionales naked namen names narration national nationale nationalen nationales nationals naturally
    naturel naturels needless negar negativa negativas negative negatively negativen negativo negativos nervt
    neutral neutron neuve newfound nexus nicht niece nieve noire noisy nombrado nomme nommee nommer normes norse
    nucleo numbered nummer nurturing objected objectif objection objekt objet objetivos objeto observacion
    observational obtention occasion omission opponent opposite orbiting organise organised organisee organiser
    organises organism organisme organismes organisms organizo organo organos otter outsider outsiders overland
    overlay overload paciente pains paint painting paintings paints palabra palin pants paradies paradise paraitre
    paralysis parametres parasitic parcial parcs pared parfaite parientes paris parks parti partially particle
    partiel partis partisan parto party parvient pasara patched patent patented patents patience patiently patterned
    payments peint pelvic penetrate penetrating penetration perimeter periphery permanence permanent permission
    perpetual pertaining pertenece petition phare phased photo photon photons physical physicist physicists
    pinterest pints pitch pitchers pitches plague plaid plaint plait planches planificacion planting plastered plein
    poing pointers polled polling ponts poole porcentaje pornography porto ports posicion position positions
    pounding pourcentage praising predator predictive preference preferences preparacion preparation prescriptions
    presentation pression preter previsions prima print printing prints prisa prism produccion production
    productions productor programm programme programmed programmes programms progress progressing progression
    progressively proie projectile projecting projector promising promo promoting prone pronto propane prose
    prosecution prosecutions proteccion protection protections protocol protocolo protokoll proving provision
    proximite proyeccion public publica publicado publicar publicas publicly publics pusieron qualification qualify
    qualitat qualitative qualite qualites quantity quantum quelques questioned quirk raced racheter racional racking
    radiation radio rambling randomly ranging rankin ransom ranting raped rapid rapida rapidez rapids rapports rater
    ratified rational reaccion reaction reactive reactors reaktion realise realised realisee realiser realises
    realist realista realiste reception recession rechercher recientes reciprocal reciting reckless reckoning
    reconstruccion recorder recording recortes recounted recreation recruiting recuerdo recuperation recurrence
    recurring redaccion redaction redaktion redress referenced referencia referente refined refinery reflective
    reformation reformes reforming refrain regal regard regarded regardent regarder regardez regards regenerate
    regeneration regent regiment regina reginald regional regionale regionales register registers registra
    registrado registrar registre registry regla regle reglement regler regne regresa regresar regreso regret
    regrets regularly regulate regulated regulates regulation regulations regulier reichtum reina rejecting
    rejection relating relation relativ relativa relatively relativo relay reliability reliance religion religions
    remaining remission remote removed remporte rends rental repaired repartition repeating replication replique
    reported reporters repost represent representa representacion representan representar representative represente
    represented representee representent representes represents represion repression researched resemble resent
    reservation reservations reset residence resolucion resonant resonate resort resorting resorts respected
    responsabilite ressemble restrain restrained restraining restraint resultar retain retained retaining retarded
    retention retourne retrait retraite retribution retrieve retrieved returned reunions reverence reversal reviewed
    revision revolucion revolution revolutions rewarded rewritten rincon roles romantic rounding ruled ruler rulers
    rutina sable sagte saine sainte sales saliendo sammlung sampled sanctions sanitaire sanitary santa santo
    satisfaccion saute scaled scalp scarcity scare scares scariest schau schaue schizophrenic schlange schwanger
    scope scorer scorers scorn screaming screwing searched seasoning seated secluded secteurs sectores securing
    security sediment seduction segmento seleccion selecting selection selectively selector semester sensibility
    sensible sentenced sentencia serenity serment seulement severely sexuelle shade shaft shake shale shame shane
    shaped shared shark shave shear shine shipping shire shirt shocking shootout shore shores shortest sicherheit
    sideline sidelines siding significant similaire similarly simpler simplest simulator sindicato sindicatos singe
    singled sintesis situated skipping skull slade slapping slated sliced slicing slick slider slime slipping smart
    smashing smell smoothie snapping snare sociales socialize solde solide solution sonia sonne soumission sounding
    spaced spacious spade spanking spare spear specified specifies specs speedy speicher spelt spend spent spice
    spike spill spins spite spoiling spores sporting sprich spruch square squarely squares stabbing stabilize
    stabilized stacking staffing staged staining stale stalking stall stalling stamping standing staple starch stare
    stared staring starring started starting startled starving stating stayed staying stealing steaming steel steep
    steer stiff stift stimulation stoff stoke stokes stole stone stoned stoner store stores straining strike
    studiert studs stuff stunning sturdy sturgeon styled submissive substitute sufficient sufficiently suitability
    sunde supera superb supervise supervisor supper surgen survived survives survivor survivre sustancias
    sustitucion swapping swear swift swore symmetry synopsis synthese synthetic systemic tailor talks tanks tasas
    tellement temas temor tempo temporada temporary tempt tendra tente tenth texted textures thanking thematic
    thrust tiennent tient timor tirage tissu tissus tolerancia tolerant toleranz tolerate tomen topography toren
    totalidad totalite toten toujours towed towel traced tracer tracey tracing track tracking traction tractors
    tracy trade traduccion traduction traen trage tragt traicion trail trailing trait traje trance tranquil
    transaction transform transforma transformar transforme transformed transforms transient transition translating
    translator transmis transmit transparence transparenz transporter trapping trate traverse traversee traverser
    treasured trece trennung triangle tributes tripping truce truss truthfully tryin tubing tubular tudor tueur
    turing turning tutor tutoring twain ubers ultimate unconditional uncontrolled understandably unexpected
    unexplained unies uniforme unilateral unite unites unity universe university unnatural unsicher unstable
    unwilling upgrading utilised utilizada utilizado utilizan utilize utilized utilizes vacation vague vagues
    validated validation valiente valientes valle valuation valuations valued valve valves variaciones variance
    variant variante varianten vascular ventures verbally verification vertical vetement viability victor vides
    visit visually vivait vivia vivid vivio vivir vocalist vogel voudrait vowel waiting wards warrants warten
    watchers weich weighed weighs weight welch werten whale whipping whore widening widow wissenschaften woods world
    worlds worms worte worter wortes wound wounding wrapping wrecking yearning youthful zulassen zulassig
"""

LOOKALIKES = frozenset(_WORDS.split())
"""Words that are never taken for typos."""
